"""Recorded jobs that a simulation of autoscaling replays."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.db.models import F, QuerySet, Sum
from django.db.models.functions import Now

from jobs.models import Attempt
from myctobot.errors import InvalidRequest
from shards.autoscaling.simulation import Arrival
from shards.autoscaling.simulation_report import MAX_ARRIVALS, Recorded


def recorded_arrivals(days: int, pool: str | None = None) -> Recorded:
    """Read when jobs could have started, and the total duration of their attempts.

    Args:
        days: read the jobs that ended within this many days.
        pool: read the jobs that ran in this pool; None reads all.

    Raises:
        InvalidRequest: there are none, or too many to replay.
    """
    rows = _ended_attempts(days, pool).values("job").annotate(length=Sum(F("ended_at") - F("claimed_at")))
    found = list(rows.values_list("job__created_at", "job__not_before", "length")[: MAX_ARRIVALS + 1])
    if not found:
        where = f" in pool {pool}" if pool else ""
        raise InvalidRequest(fields={"days": [f"No job ran{where} within the last {days} days."]})
    if len(found) > MAX_ARRIVALS:
        raise InvalidRequest(fields={"days": [f"More than {MAX_ARRIVALS} jobs ran; choose fewer days."]})
    jobs = [(_ready_at(created_at, not_before), length.total_seconds()) for created_at, not_before, length in found]
    start = min(at for at, _ in jobs)
    return Recorded(start, [Arrival((at - start).total_seconds(), max(0.0, length_s)) for at, length_s in jobs])


def _ended_attempts(days: int, pool: str | None) -> QuerySet[Attempt, Any]:
    attempts = Attempt.objects.filter(ended_at__gt=Now() - timedelta(days=days), claimed_at__isnull=False)
    return attempts.filter(shard_class__endswith=f"@{pool}") if pool else attempts


def _ready_at(created_at: datetime, not_before: datetime | None) -> datetime:
    return created_at if not_before is None else max(created_at, not_before)
