"""Status of each shard class and of the jobs that wait for it, as plain values for pages and metrics."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from django.db import connection

from jobs import broker
from jobs.dispatch.routing import Snapshot
from jobs.dispatch.snapshot import load_snapshot
from jobs.models.lanes import needs_of
from myctobot.lib.clock import database_now

_READY = """
    SELECT lane, tenant_id, count(*), greatest(0, extract(epoch FROM statement_timestamp() - min(ready_at)))::float8
    FROM jobs_job WHERE status = 'queued' AND hold = '' GROUP BY 1, 2
"""
# Number of recent attempts that show how long jobs waited. Only a job's last attempt matches its ``ready_at``.
RECENT: Final = 2000
_WAITS = """
    WITH latest AS MATERIALIZED (
        SELECT job_id, number, shard_class, claimed_at FROM jobs_attempt
        WHERE ended_at > statement_timestamp() - interval '1 hour' ORDER BY ended_at DESC LIMIT %s
    )
    SELECT shard_class, count(*),
        percentile_cont(ARRAY[0.5, 0.95]) WITHIN GROUP (
            ORDER BY greatest(0, extract(epoch FROM latest.claimed_at - job.ready_at))::float8
        )
    FROM latest JOIN jobs_job AS job ON job.id = latest.job_id AND job.attempt_number = latest.number
    WHERE latest.claimed_at IS NOT NULL GROUP BY shard_class
"""


@dataclass(frozen=True)
class ClassStatus:
    """Status of a shard class.

    Attributes:
        healthy: shards that take jobs.
        messages: in the class's queue; None when the broker cannot be reached.
        ready: ready jobs that this class could take; a job counts for each class that could take it.
        oldest_wait_s: longest wait of those.
        waits: number of attempts of the last hour on which ``wait_p50_s`` and ``wait_p95_s`` are based.
    """

    name: str
    shards: int
    healthy: int
    slots: int
    running: int
    free: int
    messages: int | None
    ready: int = 0
    oldest_wait_s: float | None = None
    waits: int = 0
    wait_p50_s: float | None = None
    wait_p95_s: float | None = None


@dataclass(frozen=True)
class Ready:
    """Ready jobs of one tenant in one lane."""

    lane: str
    tenant_id: int
    jobs: int
    oldest_s: float


def classes() -> list[ClassStatus]:
    """Return the status of all classes by name, with five queries and one call of the broker."""
    snapshot = load_snapshot(database_now())
    depths = broker.depths([group.queue for group in snapshot.classes.values()])
    with connection.cursor() as cursor:
        cursor.execute(_READY)
        ready = could_take(snapshot, [Ready(*row) for row in cursor.fetchall()])
        cursor.execute(_WAITS, [RECENT])
        waits = {name: (count, *percentiles) for name, count, percentiles in cursor.fetchall()}
    return [
        ClassStatus(
            group.name,
            len(group.shards),
            group.healthy,
            group.slots,
            group.running,
            max(0, group.free),
            depths.get(group.queue),
            *ready.get(group.name, (0, None)),
            *waits.get(group.name, (0, None, None)),
        )
        for group in sorted(snapshot.classes.values(), key=lambda group: group.name)
    ]


def could_take(snapshot: Snapshot, waiting: Iterable[Ready]) -> dict[str, tuple[int, float | None]]:
    """Return, by class, the number of ready jobs that it could take and the longest wait of those."""
    found: dict[str, tuple[int, float | None]] = {}
    for one in waiting:
        ranks = snapshot.eligible_targets(one.tenant_id, needs_of(one.lane))
        for name in {target.group.name for targets in ranks for target in targets}:
            jobs, oldest_s = found.get(name, (0, None))
            found[name] = (jobs + one.jobs, max(oldest_s or 0.0, one.oldest_s))
    return found


_WAITING = """
    SELECT lane, CASE WHEN hold = '' THEN 'ready' ELSE hold END, count(*),
        extract(epoch FROM statement_timestamp() - min(ready_at))::float8
    FROM jobs_job WHERE status = 'queued' GROUP BY 1, 2 ORDER BY 1, 2
"""


def queues() -> dict[str, Any]:
    """Return the status of each shard class and of each lane of waiting jobs."""
    snapshot = load_snapshot(database_now())
    depths = broker.depths([group.queue for group in snapshot.classes.values()])
    classes = [
        {
            "class": group.name,
            "queue": group.queue,
            "shards": len(group.shards),
            "healthy": group.healthy,
            "slots": group.slots,
            "running": group.running,
            "free": max(0, group.free),
            "messages": depths.get(group.queue),
            "unhealthy": {shard.name: shard.unhealthy for shard in group.shards if shard.unhealthy is not None},
        }
        for group in sorted(snapshot.classes.values(), key=lambda group: group.name)
    ]
    with connection.cursor() as cursor:
        cursor.execute(_WAITING)
        rows = cursor.fetchall()
    lanes = [
        {"capabilities": lane, "state": state, "jobs": jobs, "oldest_s": max(0, round(oldest_s))}
        for lane, state, jobs, oldest_s in rows
    ]
    return {"classes": classes, "waiting": lanes}
