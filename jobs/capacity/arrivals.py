"""Jobs that came and ran, as a simulation of autoscaling plays them again."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.db.models import F, QuerySet, Sum
from django.db.models.functions import Now

from jobs.models.job import Attempt
from myctobot.errors import InvalidRequest
from shards.autoscaling.simulation import Arrival
from shards.autoscaling.simulation_report import MOST_ARRIVALS, Recorded


def recorded_arrivals(days: int, pool: str | None = None) -> Recorded:
    """Read when jobs could have begun, and for how long their attempts ran, all together.

    Args:
        days: of those that ended within so many.
        pool: of those that ran there; None is of all.

    Raises:
        InvalidRequest: there are none, or more than can be played.
    """
    rows = _ran(days, pool).values("job").annotate(length=Sum(F("ended_at") - F("claimed_at")))
    found = list(rows.values_list("job__created_at", "job__not_before", "length")[: MOST_ARRIVALS + 1])
    if not found:
        where = f" in pool {pool}" if pool else ""
        raise InvalidRequest(fields={"days": [f"No job ran{where} within the last {days} days."]})
    if len(found) > MOST_ARRIVALS:
        raise InvalidRequest(fields={"days": [f"More than {MOST_ARRIVALS} jobs ran; take fewer days."]})
    came = [(_could_begin(created_at, not_before), length.total_seconds()) for created_at, not_before, length in found]
    start = min(at for at, _ in came)
    return Recorded(start, [Arrival((at - start).total_seconds(), max(0.0, length_s)) for at, length_s in came])


def _ran(days: int, pool: str | None) -> QuerySet[Attempt, Any]:
    ran = Attempt.objects.filter(ended_at__gt=Now() - timedelta(days=days), claimed_at__isnull=False)
    return ran.filter(shard_class__endswith=f"@{pool}") if pool else ran


def _could_begin(created_at: datetime, not_before: datetime | None) -> datetime:
    return created_at if not_before is None else max(created_at, not_before)
