"""How each class of shards stands, with what waits for it: as plain values for pages and metrics."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from django.db import connection

from jobs import broker
from jobs.dispatch.routing import Snapshot, needs_of
from jobs.dispatch.snapshot import load_snapshot
from myctobot.lib.clock import database_now

_READY = """
    SELECT lane, tenant_id, count(*), greatest(0, extract(epoch FROM statement_timestamp() - min(ready_at)))::float8
    FROM jobs_job WHERE status = 'queued' AND hold = '' GROUP BY 1, 2
"""
# The latest attempts that ran tell how long jobs waited; a number that was not the job's last waited for another start.
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
class ClassStand:
    """How a class of shards stands.

    Attributes:
        well: shards that take jobs.
        messages: in the class's queue in the broker; None when that cannot be reached.
        ready: jobs that wait for a slot and that this class could take. Those that several could count for each.
        oldest_wait_s: of them.
        waits: of the last hour's attempts those that are looked at; ``wait_p50_s`` and ``wait_p95_s`` are theirs.
    """

    name: str
    shards: int
    well: int
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
    """Jobs of a tenant that need the same, and wait for a slot."""

    lane: str
    tenant_id: int
    jobs: int
    oldest_s: float


def classes() -> list[ClassStand]:
    """All classes by name: five queries and one call of the broker."""
    snapshot = load_snapshot(database_now())
    depths = broker.depths([group.queue for group in snapshot.classes.values()])
    with connection.cursor() as cursor:
        cursor.execute(_READY)
        ready = could_take(snapshot, [Ready(*row) for row in cursor.fetchall()])
        cursor.execute(_WAITS, [RECENT])
        waits = {name: (count, *percentiles) for name, count, percentiles in cursor.fetchall()}
    return [
        ClassStand(
            group.name,
            len(group.shards),
            group.well,
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
    """By class: how many of the waiting jobs it could take, and how long the first of them waits."""
    found: dict[str, tuple[int, float | None]] = {}
    for one in waiting:
        ranks = snapshot.fitting(one.tenant_id, needs_of(one.lane))
        for name in {target.group.name for targets in ranks for target in targets}:
            jobs, oldest_s = found.get(name, (0, None))
            found[name] = (jobs + one.jobs, max(oldest_s or 0.0, one.oldest_s))
    return found
