"""Queries of the operators' pages, except the table of shards. Each one is bounded by time or by number."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from django.db import connection
from django.db.models import Count, Q, QuerySet

from jobs.models import Attempt
from jobs.models.states import AttemptState
from myctobot.dashboards.ops.listing import unhealthy
from myctobot.lib.clock import database_now
from shards.autoscaling.models import ScalingDecision
from shards.models import Shard, ShardState
from shards.operations.models import LIVE_OPERATIONS, Operation

# Limits of the overview. Separate pages show all entries.
MAX_LIVE: Final = 20
MAX_DECISIONS: Final = 8
PAGE: Final = 50

# This uses the index on finished_at, so it does not read jobs that ended before today.
_TODAY = """
    SELECT status, count(*) FROM jobs_job
    WHERE finished_at >= date_trunc('day', statement_timestamp() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC' GROUP BY status
"""
_LIVE = "SELECT status, hold, count(*) FROM jobs_job WHERE status IN ('queued', 'running') GROUP BY 1, 2"


@dataclass(frozen=True)
class Totals:
    """Totals at the top of the page.

    Attributes:
        shards: all shards that are not gone.
        active: healthy shards that can take jobs.
        ended: jobs that ended today (UTC), by status.
        waiting: jobs that could run now or are dispatched; ``parked`` jobs wait for a time or for other jobs.
    """

    at: datetime
    shards: int
    active: int
    unhealthy: int
    ended: dict[str, int]
    running: int
    waiting: int
    parked: int

    @property
    def jobs_today(self) -> int:
        return sum(self.ended.values())

    @property
    def success_percent(self) -> float | None:
        """Percentage of completed jobs among those that completed or failed today; cancelled jobs do not count."""
        done, failed = self.ended.get("completed", 0), self.ended.get("failed", 0)
        return 100 * done / (done + failed) if done + failed else None


def totals() -> Totals:
    """Count the shards, the open jobs and the jobs that ended today."""
    shards = Shard.objects.exclude(state=ShardState.GONE)
    serving = Q(is_active=True, is_spare=False, state=ShardState.READY)
    with connection.cursor() as cursor:
        cursor.execute(_TODAY)
        ended = dict(cursor.fetchall())
        cursor.execute(_LIVE)
        live = {(status, hold): count for status, hold, count in cursor.fetchall()}
    return Totals(
        at=database_now(),
        **shards.aggregate(
            shards=Count("pk"),
            active=Count("pk", filter=serving & ~unhealthy()),
            unhealthy=Count("pk", filter=unhealthy()),
        ),
        ended=ended,
        running=sum(count for (status, _), count in live.items() if status == "running"),
        waiting=live.get(("queued", ""), 0) + live.get(("queued", "sent"), 0),
        parked=live.get(("queued", "time"), 0) + live.get(("queued", "key"), 0),
    )


@dataclass(frozen=True)
class OperationRow:
    """Operation with its last step.

    Attributes:
        duration_s: seconds from its start to its end, or until now; None before its start.
    """

    id: int
    shard: str
    kind: str
    state: str
    step: str
    steps: int
    error: str
    by: str
    requested_at: datetime
    duration_s: float | None

    @property
    def is_live(self) -> bool:
        return self.state in LIVE_OPERATIONS


def live_operations(now: datetime) -> list[OperationRow]:
    """Return the operations that wait or run, oldest first."""
    return _operations(Operation.objects.filter(state__in=LIVE_OPERATIONS).order_by("pk")[:MAX_LIVE], now)


def operations_before(pk: int | None, now: datetime) -> list[OperationRow]:
    """Return a page of all operations, newest first, and one more row if another page follows."""
    found = Operation.objects.order_by("-pk")
    return _operations((found.filter(pk__lt=pk) if pk else found)[: PAGE + 1], now)


def _operations(found: QuerySet[Operation], now: datetime) -> list[OperationRow]:
    return [_operation(operation, now) for operation in found.select_related("shard")]


def _operation(operation: Operation, now: datetime) -> OperationRow:
    last: dict[str, Any] = operation.steps[-1] if operation.steps else {}
    until = operation.ended_at or now
    return OperationRow(
        operation.pk,
        operation.shard.name,
        operation.kind,
        operation.state,
        str(last.get("text", "")),
        len(operation.steps),
        operation.error,
        operation.requested_by,
        operation.requested_at,
        max(0.0, (until - operation.started_at).total_seconds()) if operation.started_at else None,
    )


def decisions_before(pk: int | None, maximum: int) -> list[ScalingDecision]:
    """Return scaling decisions, newest first, without their inputs."""
    found = ScalingDecision.objects.select_related("pool").defer("inputs").order_by("-pk")
    return list((found.filter(pk__lt=pk) if pk else found)[:maximum])


def running_on(shard: Shard) -> list[Attempt]:
    """Return the running attempts of a shard, which are usually not more than its slots."""
    running = Attempt.objects.filter(shard=shard, state=AttemptState.RUNNING, ended_at=None)
    return list(running.select_related("job__tenant").order_by("claimed_at")[:PAGE])
