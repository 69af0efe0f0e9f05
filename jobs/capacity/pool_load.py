"""Demand and load of pools, measured here for the decisions of ``shards.autoscaling``."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final

import structlog
from django.db import DatabaseError, connection
from django.db.models import Count, Exists, Max, OuterRef, Q, QuerySet

from jobs.capacity.demand import AssignmentRank, PoolCandidate, WaitingJobs, waits_by_pool
from jobs.dispatch import wakeup
from jobs.models import Attempt
from jobs.models.lanes import needs_of
from jobs.models.states import LIVE_ATTEMPTS, AttemptState
from myctobot.contract.shards import shard_queue
from myctobot.errors import InvalidRequest, MyctobotError
from myctobot.lib.clock import database_now
from myctobot.tenants.models import Tenant
from shards.autoscaling import decision_log
from shards.autoscaling.observation import PoolLoad
from shards.autoscaling.pool_state import slots_of_new
from shards.autoscaling.rules import read_rules
from shards.autoscaling.scaler import scale
from shards.autoscaling.warm_spares import activate
from shards.models import Assignment, Pool, Shard, ShardState, Suspension

log = structlog.get_logger(__name__)

# Grouped by whole seconds, so that a few hundred rows represent a hundred thousand waiting jobs.
_WAITING: Final = """
    SELECT tenant_id, lane, floor(greatest(0, extract(epoch FROM statement_timestamp() - ready_at)))::float8, count(*)
    FROM jobs_job WHERE status = 'queued' AND hold = '' GROUP BY 1, 2, 3
"""
# Tried in this order, because no index finds the last attempt of one shard and most shards ended one recently.
_LOOK_BACK: Final = (timedelta(hours=1), timedelta(days=1), timedelta(days=7))


def scale_pools() -> None:
    """Scale every pool that has rules. Any number of processes may call this; each pool is scaled by one of them."""
    pools = list(_pools().filter(scaling_rules__isnull=False).order_by("pk"))
    if not pools:
        return
    now = database_now()
    waits = _waits(pools)
    for pool in pools:
        try:
            scale(pool, load_of(pool, waits.get(pool.pk, ()), now), is_busy, now)
        except (MyctobotError, DatabaseError) as error:
            # An error in one pool must not keep the others from growing.
            log.exception("pool.not_scaled", pool=pool.name, error=str(error))


def use_spares() -> list[str]:
    """Activate spares of pools in which jobs wait, and return their names."""
    ready = Shard.objects.filter(pool=OuterRef("pk"), is_spare=True, is_active=True, state=ShardState.READY)
    dry = Q(scaling_rules__isnull=False, scaling_dry_run=True)
    pools = list(_pools().filter(Exists(ready)).exclude(dry))
    waits = _waits(pools) if pools else {}
    used = [name for pool in pools for name in _activate(pool, waits.get(pool.pk, ()))]
    if used:
        wakeup.request_round()
    return used


def _activate(pool: Pool, waits_s: Iterable[float]) -> list[str]:
    waiting = len(list(waits_s))
    reason = f"{waiting} jobs wait for a slot, and spares are available."
    spares = (activate(pool, reason=reason) for _ in range(math.ceil(waiting / slots_of_new(pool))))
    names: list[str] = []
    for spare in spares:
        if spare is None:
            break
        names.append(spare.name)
    if names:
        decision_log.write(pool, 0, reason, {"measured": {"waiting_jobs": waiting}}, names)
    return names


def is_busy(shard_id: int) -> bool:
    """Tell whether a shard runs an attempt, or one is on its way to the shard's own queue."""
    name = Shard.objects.values_list("name", flat=True).get(pk=shard_id)
    here = Q(shard=shard_id, ended_at=None) | Q(queue=shard_queue(name), state__in=LIVE_ATTEMPTS)
    return Attempt.objects.filter(here).exists()


def load_of(pool: Pool, waits_s: Iterable[float], now: datetime) -> PoolLoad:
    """Measure the load of a pool.

    Args:
        waits_s: waits of the jobs that the pool should serve.
    """
    shards = list(Shard.objects.filter(pool=pool).exclude(state=ShardState.GONE).order_by("pk"))
    held = Attempt.objects.filter(shard__in=shards, ended_at=None).values_list("shard").annotate(Count("pk"))
    running = Counter({pk: count for pk, count in held if pk is not None})
    queues = {name for shard in shards for name in shard.queues}
    sent = Attempt.objects.filter(state=AttemptState.SENT, queue__in=queues)
    for queue in sent.values_list("queue", flat=True):
        # Any shard of the class may take the message; assume the one with the fewest attempts.
        consumers = [shard for shard in shards if queue in shard.queues and shard.state == ShardState.READY]
        if consumers:
            running[min(consumers, key=lambda shard: (shard.is_spare, running[shard.pk], shard.pk)).pk] += 1
    idle = {shard.pk for shard in shards if not running[shard.pk]}
    return PoolLoad(dict(running), _last_ends(idle, now), tuple(waits_s))


def _last_ends(shard_ids: set[int], now: datetime) -> dict[int, datetime]:
    """Return when the last attempt ended on each shard; shards without one in the last week are missing."""
    found: dict[int, datetime] = {}
    for back in _LOOK_BACK:
        missing = shard_ids - found.keys()
        if not missing:
            break
        ended = Attempt.objects.filter(shard__in=missing, ended_at__gt=now - back)
        found |= {pk: at for pk, at in ended.values_list("shard").annotate(Max("ended_at")) if pk is not None}
    return found


def _pools() -> QuerySet[Pool]:
    paused = Suspension.objects.filter(pool=OuterRef("pk"), resumed_at=None)
    return Pool.objects.filter(~Exists(paused)).select_related("template")


def _waits(pools: list[Pool]) -> dict[int, list[float]]:
    """Return the waits of the jobs that each pool should serve, by the pool's id."""
    candidates = [
        PoolCandidate(pool.pk, pool.name, frozenset(pool.template.capabilities), _can_grow(pool))
        for pool in pools
        if pool.template
    ]
    with connection.cursor() as cursor:
        cursor.execute(_WAITING)
        waiting = [
            WaitingJobs(tenant, needs_of(lane), wait_s, count) for tenant, lane, wait_s, count in cursor.fetchall()
        ]
    tenants = {group.tenant_id for group in waiting}
    return waits_by_pool(waiting, candidates, _assignments(tenants), _remaining(tenants))


def _can_grow(pool: Pool) -> bool:
    try:
        maximum = read_rules(pool.scaling_rules).limits.max_shards
    except InvalidRequest:
        return False
    present = Shard.objects.filter(pool=pool).exclude(state__in=(ShardState.GONE, ShardState.REQUESTED))
    return present.count() < maximum or present.filter(is_spare=True).exists()


def _assignments(tenants: set[int]) -> dict[int, dict[str, AssignmentRank]]:
    found: dict[int, dict[str, AssignmentRank]] = {}
    rows = Assignment.objects.filter(tenant__in=tenants, pool__isnull=False)
    for tenant_id, pool, default, priority in rows.values_list("tenant_id", "pool__name", "is_default", "priority"):
        found.setdefault(tenant_id, {})[str(pool)] = AssignmentRank(default, priority)
    return found


def _remaining(tenants: set[int]) -> dict[int, int | None]:
    """Return how many more jobs of each active tenant may run."""
    rows = Attempt.objects.filter(state__in=LIVE_ATTEMPTS, job__tenant__in=tenants).values_list("job__tenant")
    running = dict(rows.annotate(Count("pk")))
    active = Tenant.objects.filter(pk__in=tenants, is_active=True).values_list("pk", "max_running_jobs")
    return {pk: None if limit is None else limit - running.get(pk, 0) for pk, limit in active}
