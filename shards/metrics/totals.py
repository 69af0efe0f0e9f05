"""Counters that never decrease, although the counted rows are removed later.

Incrementing a row with each job would make jobs wait for that row. Therefore ``accumulate`` counts the ended rows up to
a moment in the past from time to time and stores the sum. ``read_total`` adds the rows that ended since then.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from django.db import connection, transaction

from myctobot.lib.clock import database_now
from shards.metrics.models import Total

# A row becomes visible when its transaction ends, later than its timestamp. No transaction lasts longer than this.
SETTLED_AFTER: Final = timedelta(minutes=5)


@dataclass(frozen=True)
class CounterSource:
    """Source of a counter: rows that end once.

    Attributes:
        name: name of its total.
        sql: statement that returns keys and counts of the rows that ended after ``%(after)s`` and up to ``%(until)s``.
    """

    name: str
    sql: str


def read_total(source: CounterSource) -> dict[str, float]:
    """Return the total counts by key."""
    kept = Total.objects.filter(name=source.name).first()
    return _sum(kept.counts if kept else {}, _count(source, kept.counted_until if kept else None, None))


@transaction.atomic
def accumulate(source: CounterSource) -> None:
    """Store the counts of ended rows. Call this before rows are removed; concurrent calls are safe."""
    until = database_now() - SETTLED_AFTER
    Total.objects.get_or_create(name=source.name, defaults={"counted_until": datetime.min.replace(tzinfo=until.tzinfo)})
    kept = Total.objects.select_for_update().get(name=source.name)
    if kept.counted_until >= until:
        return
    kept.counts = _sum(kept.counts, _count(source, kept.counted_until, until))
    kept.counted_until = until
    kept.save(update_fields=["counts", "counted_until"])


def _count(source: CounterSource, after: datetime | None, until: datetime | None) -> dict[str, float]:
    with connection.cursor() as cursor:
        cursor.execute(source.sql, {"after": after or "-infinity", "until": until or "infinity"})
        return {key: float(number) for key, number in cursor.fetchall()}


def _sum(one: Mapping[str, float], other: Mapping[str, float]) -> dict[str, float]:
    return {key: one.get(key, 0.0) + other.get(key, 0.0) for key in sorted({*one, *other})}
