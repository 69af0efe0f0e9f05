"""Counts that only grow, although what is counted is removed one day.

A counter must never go down, and one that is moved on with each job would be a row that all of them wait for. So what
has ended is counted now and then up to a moment in the past, and that is kept (``fold``); whoever asks gets it with
what ended since (``read``), which is still there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from django.db import connection, transaction

from myctobot.lib.clock import database_now
from shards.metrics.models import Total

# A time is written when a transaction begins to write, and seen when it has ended: none takes longer.
SETTLED_AFTER: Final = timedelta(minutes=5)


@dataclass(frozen=True)
class Source:
    """Something that ends, once each.

    Attributes:
        name: of its total.
        sql: gives key and number of what ended after a moment and not after another one. It has these two as
            ``%(after)s`` and ``%(until)s``.
    """

    name: str
    sql: str


def read(source: Source) -> dict[str, float]:
    """How many there ever were, by key."""
    kept = Total.objects.filter(name=source.name).first()
    return _sum(kept.counts if kept else {}, _count(source, kept.counted_until if kept else None, None))


@transaction.atomic
def fold(source: Source) -> None:
    """Keep the count of what has ended for good. Do it before anything is removed; any number of callers may."""
    until = database_now() - SETTLED_AFTER
    Total.objects.get_or_create(name=source.name, defaults={"counted_until": datetime.min.replace(tzinfo=until.tzinfo)})
    kept = Total.objects.select_for_update().get(name=source.name)
    if kept.counted_until >= until:
        return
    kept.counts = _sum(kept.counts, _count(source, kept.counted_until, until))
    kept.counted_until = until
    kept.save(update_fields=["counts", "counted_until"])


def _count(source: Source, after: datetime | None, until: datetime | None) -> dict[str, float]:
    with connection.cursor() as cursor:
        cursor.execute(source.sql, {"after": after or "-infinity", "until": until or "infinity"})
        return {key: float(number) for key, number in cursor.fetchall()}


def _sum(one: Mapping[str, float], other: Mapping[str, float]) -> dict[str, float]:
    return {key: one.get(key, 0.0) + other.get(key, 0.0) for key in sorted({*one, *other})}
