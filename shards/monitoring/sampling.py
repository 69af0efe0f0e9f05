"""Samples of each shard's load every half minute, and their series for charts."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from django.db import connection

from myctobot.lib.clock import database_now
from shards.models import Shard
from shards.models.timeouts import SILENT_AFTER

SAMPLE_EVERY_S: Final = 30
MAX_POINTS: Final = 2000

# A silent shard has no sample, so its chart has a gap.
#
# Times are rounded to the interval, so that two runs at once store one sample.
#
# LEAST keeps the numbers of a hostile shard within the columns' range; one overflow would fail the whole statement.
_SAMPLE: Final = """
    INSERT INTO shards_shardsample
        (shard_id, at, state, cpu_percent, memory_mb, memory_total_mb, disk_free_mb, running, slots)
    SELECT id, date_bin(make_interval(secs => %(every)s), statement_timestamp(), 'epoch'), state,
        LEAST((report->>'cpu_percent')::float8, 100000),
        LEAST((report->>'memory_mb')::numeric, 2147483647), LEAST((report->>'memory_total_mb')::numeric, 2147483647),
        LEAST((report->>'disk_free_mb')::numeric, 2147483647),
        jsonb_array_length(report->'running'), LEAST(max_concurrent_jobs, (report->>'slots')::numeric)
    FROM shards_shard
    WHERE is_active AND last_heartbeat_at > statement_timestamp() - %(silent)s
        AND report ?& ARRAY['cpu_percent', 'memory_mb', 'memory_total_mb', 'disk_free_mb', 'running', 'slots']
    ON CONFLICT DO NOTHING
"""
_SERIES: Final = """
    SELECT date_bin(make_interval(secs => %(width)s), at, %(since)s) AS bucket, avg(cpu_percent),
        avg(memory_mb)::float8, max(memory_total_mb), min(disk_free_mb), avg(running)::float8, max(slots)
    FROM shards_shardsample WHERE shard_id = %(shard)s AND at >= %(since)s
    GROUP BY bucket ORDER BY bucket
"""


@dataclass(frozen=True)
class Bucket:
    """Load of a shard over an interval: averages, except maximum memory and slots and minimum free disk.

    Attributes:
        at: start of the interval.
    """

    at: datetime
    cpu_percent: float
    memory_mb: float
    memory_total_mb: int
    disk_free_mb: int
    running: float
    slots: int


def sample() -> int:
    """Store a sample of every shard that reports, and return their number. Safe to run twice at once."""
    bounds: dict[str, Any] = {"every": SAMPLE_EVERY_S, "silent": SILENT_AFTER}
    with connection.cursor() as cursor:
        cursor.execute(_SAMPLE, bounds)
        taken: int = cursor.rowcount
    return taken


def series(shard: Shard, since: datetime, points: int) -> list[Bucket]:
    """Return a shard's load over time, oldest first, without buckets for silent times.

    Args:
        shard: the shard.
        since: start of the first bucket.
        points: number of buckets until now, 1 to ``MAX_POINTS``; a bucket is at least one sample interval long.
    """
    length_s = max(0.0, (database_now() - since).total_seconds())
    width_s = max(float(SAMPLE_EVERY_S), length_s / min(max(points, 1), MAX_POINTS))
    with connection.cursor() as cursor:
        cursor.execute(_SERIES, {"width": width_s, "since": since, "shard": shard.pk})
        return [Bucket(*row) for row in cursor.fetchall()]
