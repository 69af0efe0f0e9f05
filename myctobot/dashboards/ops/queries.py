"""What the operators' page shows beside the table of shards; each a query or two, bounded by time or by number."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from django.db import connection
from django.db.models import QuerySet

from jobs.models.job import Attempt
from jobs.models.states import AttemptState
from myctobot.dashboards.ops.listing import unhealthy
from myctobot.lib.clock import database_now
from shards.autoscaling.models import ScalingDecision
from shards.models.shard import Shard, ShardState
from shards.operations.models import LIVE_OPERATIONS, Operation

# Of the page itself; further ones have pages of their own.
MOST_LIVE: Final = 20
MOST_DECISIONS: Final = 8
PAGE: Final = 50

# By the index over ends: what ended before today is not looked at.
_TODAY = """
    SELECT status, count(*) FROM jobs_job
    WHERE finished_at >= date_trunc('day', statement_timestamp() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC' GROUP BY status
"""
_LIVE = "SELECT status, hold, count(*) FROM jobs_job WHERE status IN ('queued', 'running') GROUP BY 1, 2"


@dataclass(frozen=True)
class Totals:
    """The figures on top.

    Attributes:
        shards: all that are not gone.
        active: those that take jobs, or would.
        ended: jobs that ended today (UTC), by status.
        waiting: jobs that could run now, or are on their way to a slot; ``parked`` ones wait for a time or for others.
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
        """Of what completed or failed today; a job that somebody cancelled is neither."""
        done, failed = self.ended.get("completed", 0), self.ended.get("failed", 0)
        return 100 * done / (done + failed) if done + failed else None


def totals() -> Totals:
    """Five counts of what there is now and one of today."""
    shards = Shard.objects.exclude(state=ShardState.GONE)
    with connection.cursor() as cursor:
        cursor.execute(_TODAY)
        ended = dict(cursor.fetchall())
        cursor.execute(_LIVE)
        live = {(status, hold): count for status, hold, count in cursor.fetchall()}
    return Totals(
        at=database_now(),
        shards=shards.count(),
        active=shards.filter(is_active=True, is_spare=False, state=ShardState.READY).exclude(unhealthy()).count(),
        unhealthy=shards.filter(unhealthy()).count(),
        ended=ended,
        running=sum(count for (status, _), count in live.items() if status == "running"),
        waiting=live.get(("queued", ""), 0) + live.get(("queued", "sent"), 0),
        parked=live.get(("queued", "time"), 0) + live.get(("queued", "key"), 0),
    )


@dataclass(frozen=True)
class OperationRow:
    """An operation, with its last step.

    Attributes:
        took_s: seconds since it began, or that it took.
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
    took_s: float | None

    @property
    def is_live(self) -> bool:
        return self.state in LIVE_OPERATIONS


def live_operations(now: datetime) -> list[OperationRow]:
    """Operations that wait or are carried out, the oldest first."""
    return _operations(Operation.objects.filter(state__in=LIVE_OPERATIONS).order_by("pk")[:MOST_LIVE], now)


def operations_before(pk: int | None, now: datetime) -> list[OperationRow]:
    """A page of all operations, newest first, and one more if there are more."""
    found = Operation.objects.order_by("-pk")
    return _operations((found.filter(pk__lt=pk) if pk else found)[: PAGE + 1], now)


def _operations(found: QuerySet[Operation], now: datetime) -> list[OperationRow]:
    return [_operation(one, now) for one in found.select_related("shard")]


def _operation(one: Operation, now: datetime) -> OperationRow:
    last: dict[str, Any] = one.steps[-1] if one.steps else {}
    until = one.ended_at or now
    return OperationRow(
        one.pk,
        one.shard.name,
        one.kind,
        one.state,
        str(last.get("text", "")),
        len(one.steps),
        one.error,
        one.requested_by,
        one.requested_at,
        max(0.0, (until - one.started_at).total_seconds()) if one.started_at else None,
    )


def decisions_before(pk: int | None, most: int) -> list[ScalingDecision]:
    """Scaling decisions, newest first, without the measures that they were made by."""
    found = ScalingDecision.objects.select_related("pool").defer("inputs").order_by("-pk")
    return list((found.filter(pk__lt=pk) if pk else found)[:most])


def running_on(shard: Shard) -> list[Attempt]:
    """The attempts that a shard runs now; no more than it has slots, as a rule."""
    running = Attempt.objects.filter(shard=shard, state=AttemptState.RUNNING, ended_at=None)
    return list(running.select_related("job__tenant").order_by("claimed_at")[:PAGE])
