"""Rounds of ``dispatch_round``, which run inside ``manage.py shell`` on a database of their own."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from typing import Any

from django.db import connection
from django.db.models.functions import Now

from jobs.dispatch.round import dispatch_round
from jobs.dispatch.routing import NoRoute, route
from jobs.dispatch.snapshot import load_snapshot
from jobs.models import Attempt, FairShareClocks, Job
from jobs.models.lanes import lane_of
from myctobot.lib.clock import database_now
from myctobot.tenants.models import Tenant
from shards.models import Assignment, Pool, Shard
from tests.benchmarks.result import spread
from tests.benchmarks.world import CLASSES, SLOTS, TENANTS, assignments, job_requests, shards

STEPS = (100, 1_000, 10_000, 100_000)
FREE_EACH = 2
_ROUNDS = 15
# The stack has created a tenant already, so these numbers start higher.
_FIRST_TENANT = 1000


def main() -> None:
    """Print one line of JSON with a step for each number of waiting jobs."""
    create_installation()
    sys.stdout.write(json.dumps([_step(waiting) for waiting in STEPS]) + "\n")


def create_installation() -> None:
    """Create the shards and tenants of ``world``, with a running job in every slot."""
    Tenant.objects.bulk_create(
        Tenant(pk=_FIRST_TENANT + n, slug=f"tenant-{n}", name=f"Tenant {n}") for n in range(TENANTS)
    )
    views = shards()
    pools = {name: Pool.objects.create(name=name) for name in sorted({view.pool for view in views if view.pool})}
    Shard.objects.bulk_create(
        Shard(
            name=view.name,
            shard_class=view.shard_class,
            capabilities=sorted(view.capabilities),
            pool=pools.get(view.pool or ""),
            max_concurrent_jobs=SLOTS,
            state="ready",
        )
        for view in views
    )
    Assignment.objects.bulk_create(
        Assignment(
            tenant_id=_FIRST_TENANT + tenant,
            pool=pools[right.pool or ""],
            priority=right.priority,
            is_default=right.is_default,
        )
        for tenant, rights in assignments().items()
        for right in rights
    )
    _fill_all_slots()


def _fill_all_slots() -> None:
    held = [(shard, number) for shard in Shard.objects.order_by("pk") for number in range(SLOTS)]
    jobs = Job.objects.bulk_create(
        _job(index % TENANTS, ("git",), status="running", attempt_number=1) for index in range(len(held))
    )
    Attempt.objects.bulk_create(
        Attempt(job=job, number=1, state="running", queue="", shard_class=shard.shard_class, shard=shard)
        for job, (shard, _) in zip(jobs, held, strict=True)
    )


def _job(tenant: int, needs: Sequence[str], **facts: Any) -> Job:
    facts = {"tenant_id": _FIRST_TENANT + tenant, "task": {}, "timeout_s": 60, "max_turns": 5, **facts}
    return Job(capabilities=list(needs), lane=lane_of(needs), **facts)


def _step(waiting: int) -> dict[str, Any]:
    Job.objects.filter(status="queued").delete()
    Job.objects.bulk_create(
        (_job(tenant, needs, priority=(10, 20, 30)[n % 3]) for n, (tenant, needs) in enumerate(job_requests(waiting))),
        batch_size=5_000,
    )
    _vacuum()
    full = [_timed_round()[0] for _ in range(_ROUNDS)]
    read_all = _read_every_job()
    _free_slots()
    rounds = [_timed_round() for _ in range(_ROUNDS)]
    Attempt.objects.filter(state="ended").update(state="running")
    each = sorted(ms / sent for ms, sent in rounds)
    return {
        "waiting": waiting,
        "nothing_free_ms": spread(full),
        "every_job_read_ms": read_all,
        "dispatching_ms": spread([ms for ms, _ in rounds]),
        "sent": rounds[-1][1],
        "ms_each": round(each[len(each) // 2], 3),
    }


def _timed_round() -> tuple[float, int]:
    """Run one round and return its milliseconds and the number of dispatched jobs, which are reset afterwards."""
    Shard.objects.update(last_heartbeat_at=Now())
    began = time.perf_counter()
    sent = dispatch_round().sent
    took_ms = (time.perf_counter() - began) * 1000
    if sent:
        with connection.cursor() as cursor:
            cursor.execute("DELETE FROM jobs_attempt WHERE state = 'sent'")
            cursor.execute(
                "UPDATE jobs_job SET hold = '', attempt_number = 0 WHERE status = 'queued' AND hold = 'sent'"
            )
        FairShareClocks.objects.all().delete()
        _vacuum()
    return took_ms, sent


def _vacuum() -> None:
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE jobs_job, jobs_attempt, jobs_sharestate")


def _free_slots() -> None:
    """Free a few slots of every class."""
    for view in shards()[: CLASSES * FREE_EACH]:
        held = Attempt.objects.filter(shard__name=view.name, state="running").first()
        assert held is not None
        Attempt.objects.filter(pk=held.pk).update(state="ended")


def _read_every_job() -> float:
    """Return the milliseconds that routing every waiting job takes, the best of three."""
    times = []
    for _ in range(3):
        began = time.perf_counter()
        snapshot = load_snapshot(database_now())
        columns = ("public_id", "tenant_id", "capabilities", "attempt_number")
        refused: set[tuple[int, tuple[str, ...]]] = set()
        for job in Job.objects.filter(status="queued", hold="").order_by("priority", "id").only(*columns):
            kind = (job.tenant_id, tuple(job.capabilities))
            if kind not in refused and isinstance(route(*kind, snapshot), NoRoute):
                refused.add(kind)
        times.append((time.perf_counter() - began) * 1000)
    return round(min(times), 1)
