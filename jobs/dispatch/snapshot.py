"""Reads the router's snapshot from the database: six queries, whatever the number of jobs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import datetime
from typing import Any, cast

from django.db.models import Count

from jobs.dispatch.routing import AssignmentView, ShardView, Snapshot
from jobs.models.job import Attempt
from jobs.models.states import AttemptState
from myctobot.contract.jobs import class_queue, shard_class, shard_queue
from myctobot.lib.sql import one_row
from shards.health.rules import closed_phrase, why_not_healthy
from shards.models.shard import Assignment, Closure, Pool, PoolMode, Shard, ShardState

_Row = dict[str, Any]
_SHARD = (
    "pk", "name", "shard_class", "capabilities", "pool__name", "is_active", "state", "last_heartbeat_at",
    "max_concurrent_jobs", "report__slots", "pool__mode", "is_spare", "is_used",
)  # fmt: skip


_SCALED = "SELECT 1 FROM shards_pool WHERE scaling_rules IS NOT NULL AND NOT scaling_dry_run LIMIT 1"


def load_snapshot(now: datetime) -> Snapshot:
    """Read shards, assignments, closures and load as of ``now`` (the database's clock)."""
    running = dict(
        Attempt.objects.filter(state=AttemptState.RUNNING, shard__isnull=False)
        .values_list("shard")
        .annotate(Count("pk"))
    )
    sent = Attempt.objects.filter(state=AttemptState.SENT).values_list("queue").annotate(n=Count("pk"))
    why_closed = _closures()
    # Rows, not objects: a thousand shards are read every second.
    there = Shard.objects.filter(is_active=True).exclude(state=ShardState.GONE)
    shards = there.order_by("name").values(*_SHARD)
    views = [_view(row, running.get(row["pk"], 0), why_closed, now) for row in shards.iterator()]
    return Snapshot(
        [*views, *_not_built_yet({view.pool for view in views})],
        _assignments(),
        Counter(dict(sent)),
    )


def _not_built_yet(pools: set[str | None]) -> list[ShardView]:
    """What autoscaling would build of pools that have no shard now: a job for it waits, and is not refused."""
    # Most have none; to ask so costs a tenth of what Django's way to the rows does.
    if one_row(_SCALED, []) is None:
        return []
    scaled = Pool.objects.filter(scaling_rules__isnull=False, scaling_dry_run=False, template__isnull=False)
    return [
        ShardView(
            # As none is called that autoscaling makes.
            name=f"{name}-0",
            shard_class=shard_class(capabilities, name),
            class_queue=class_queue(capabilities, name),
            own_queue=shard_queue(f"{name}-0"),
            capabilities=frozenset(capabilities),
            pool=name,
            slots=0,
            running=0,
            unhealthy="is built when jobs wait",
        )
        for name, capabilities in scaled.exclude(provider="").values_list("name", "template__capabilities")
        if name not in pools
    ]


def _assignments() -> dict[int, tuple[AssignmentView, ...]]:
    found: dict[int, tuple[AssignmentView, ...]] = {}
    rows = Assignment.objects.order_by("pk")
    for tenant_id, shard, pool, priority, default in rows.values_list(
        "tenant_id", "shard__name", "pool__name", "priority", "is_default"
    ):
        # The joins are outer ones: an assignment is of a shard or of a pool.
        view = AssignmentView(cast("str | None", shard), cast("str | None", pool), priority, default)
        found[tenant_id] = (*found.get(tenant_id, ()), view)
    return found


def _closures() -> Callable[[_Row], str | None]:
    """Tell for a shard's row why an operator closed it, its class or its pool."""
    by_shard: dict[int, str] = {}
    by_place: dict[str, str] = {}
    rows = Closure.objects.filter(reopened_at=None)
    for shard_id, pool, name, by, at, reason in rows.values_list(
        "shard_id", "pool__name", "shard_class", "closed_by", "closed_at", "reason"
    ):
        if cast("int | None", shard_id) is not None:
            by_shard[shard_id] = closed_phrase("draining", by, at, reason)
        else:
            place = f"pool {pool}" if pool else f"class {name}"
            by_place[place] = closed_phrase(f"({place}) paused", by, at, reason)

    def why(row: _Row) -> str | None:
        of_class, of_pool = f"class {row['shard_class']}", f"pool {row['pool__name']}"
        return by_shard.get(row["pk"]) or by_place.get(of_class) or by_place.get(of_pool)

    return why


def _view(row: _Row, running: int, why_closed: Callable[[_Row], str | None], now: datetime) -> ShardView:
    is_ephemeral = row["pool__mode"] == PoolMode.EPHEMERAL
    sick = why_not_healthy(
        is_active=row["is_active"], state=row["state"], last_heartbeat_at=row["last_heartbeat_at"], now=now
    )
    if row["is_spare"]:
        sick = sick or "a warm spare"
    if is_ephemeral and row["is_used"]:
        # It drains by itself; at its one job it is as busy as any.
        sick = None if running else "about to be made anew"
    closed = why_closed(row)
    most, reported = 1 if is_ephemeral else row["max_concurrent_jobs"], row["report__slots"]
    return ShardView(
        name=row["name"],
        shard_class=row["shard_class"],
        class_queue=f"cap.{row['shard_class']}",
        own_queue=shard_queue(row["name"]),
        capabilities=frozenset(row["capabilities"]),
        pool=row["pool__name"],
        # As ``Shard.usable_slots``.
        slots=most if reported is None else min(most, int(reported)),
        running=running,
        unhealthy=closed or sick,
        closed=closed is not None or sick == "draining",
    )
