"""A sample of each shard every half a minute, and what charts show of them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from django.db import connection

from myctobot.lib.clock import database_now
from shards.health.rules import SILENT_AFTER
from shards.models.shard import Shard

SAMPLE_EVERY_S: Final = 30
MOST_POINTS: Final = 2000

# A shard that is silent has no sample: a gap in the chart says so. The moment is cut to the interval, so that two runs
# at once make one. A shard may say larger numbers than columns hold: one that lies must not spoil the others' samples.
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
    """What a shard was like for a while: averages, but for the total memory, the least free disk and the slots.

    Attributes:
        at: when it begins.
    """

    at: datetime
    cpu_percent: float
    memory_mb: float
    memory_total_mb: int
    disk_free_mb: int
    running: float
    slots: int


def sample() -> int:
    """Take a sample of every shard that is heard of; returns of how many. To run twice at once does no harm."""
    bounds: dict[str, Any] = {"every": SAMPLE_EVERY_S, "silent": SILENT_AFTER}
    with connection.cursor() as cursor:
        cursor.execute(_SAMPLE, bounds)
        taken: int = cursor.rowcount
    return taken


def series(shard: Shard, since: datetime, points: int) -> list[Bucket]:
    """What charts show of a shard, oldest first; where it was silent there is no bucket.

    Args:
        shard: whose.
        since: the beginning of the first bucket.
        points: buckets from then until now, 1 to ``MOST_POINTS``; none is shorter than the interval of samples.
    """
    length_s = max(0.0, (database_now() - since).total_seconds())
    width_s = max(float(SAMPLE_EVERY_S), length_s / min(max(points, 1), MOST_POINTS))
    with connection.cursor() as cursor:
        cursor.execute(_SERIES, {"width": width_s, "since": since, "shard": shard.pk})
        return [Bucket(*row) for row in cursor.fetchall()]
