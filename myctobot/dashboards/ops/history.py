"""Data of the operators' charts: the last three hours in columns of five minutes."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from django.db import connection

from myctobot.dashboards.ops.charts import Chart, Series, chart
from myctobot.lib.clock import database_now
from myctobot.lib.ttl_cache import CachedValue

COLUMN: Final = timedelta(minutes=5)
COLUMNS: Final = 36
# Charts change slowly, so each web process reads their data at most once in this time.
_CACHE_S: Final = 20.0

# A job that started in this time has ended in it or is running, so both parts use an index over few rows.
_ENDED = """
    SELECT floor(extract(epoch FROM finished_at) / %(column)s)::bigint, count(*)
    FROM jobs_job WHERE finished_at >= %(since)s GROUP BY 1
"""
_STARTED = """
    SELECT floor(extract(epoch FROM started_at) / %(column)s)::bigint, count(*),
        -- After a retry, ready_at is later than started_at and says nothing about the wait before that start.
        percentile_cont(0.95) WITHIN GROUP (ORDER BY extract(epoch FROM started_at - ready_at)::float8)
            FILTER (WHERE ready_at <= started_at)
    FROM (
        SELECT started_at, ready_at FROM jobs_job WHERE finished_at >= %(since)s
        UNION ALL SELECT started_at, ready_at FROM jobs_job WHERE status = 'running'
    ) AS recent
    WHERE started_at >= %(since)s GROUP BY 1
"""
# Read only the last samples of each column: all shards are sampled at the same moment.
_SHARDS = """
    WITH columns AS (
        SELECT floor(extract(epoch FROM start) / %(column)s)::bigint AS number, (
            SELECT max(at) FROM shards_shardsample
            WHERE at >= start AND at < start + make_interval(secs => %(column)s)
        ) AS at
        FROM generate_series(%(since)s::timestamptz, %(until)s::timestamptz, make_interval(secs => %(column)s)) AS start
    )
    SELECT columns.number, sample.state, count(*), sum(sample.running), sum(sample.slots)
    FROM columns JOIN shards_shardsample AS sample ON sample.at = columns.at GROUP BY 1, 2
"""
_STATES: Final = (
    ("ready", "tone-good"), ("draining", "tone-warn"), ("provisioning", "tone-info"), ("suspect", "tone-bad"),
    ("other", "tone-muted"),
)  # fmt: skip


def read_charts() -> list[Chart]:
    """Read the data of the four charts."""
    column_s = COLUMN.total_seconds()
    last = int(database_now().timestamp() // column_s)
    numbers = range(last - COLUMNS + 1, last + 1)
    moments = [datetime.fromtimestamp(number * column_s, UTC) for number in numbers]
    values = {"column": column_s, "since": moments[0], "until": moments[-1]}
    ended = dict(_rows(_ENDED, values))
    started = {number: (count, wait_s) for number, count, wait_s in _rows(_STARTED, values)}
    states: dict[int, dict[str, int]] = {}
    use: dict[int, tuple[int, int]] = {}
    for number, state, count, running, slots in _rows(_SHARDS, values):
        counts = states.setdefault(number, {})
        name = state if state in dict(_STATES) else "other"
        counts[name] = counts.get(name, 0) + count
        used, slots_so_far = use.get(number, (0, 0))
        use[number] = (used + running, slots_so_far + slots)
    return [
        _jobs_chart(moments, numbers, ended, started),
        chart(
            "wait", "How long jobs waited (p95)", moments,
            [Series("waited", "tone-warn", [started.get(number, (0, None))[1] for number in numbers])], unit=" s",
        ),
        chart(
            "utilisation", "Slots in use", moments,
            [Series("in use", "tone-info", [_percent(use.get(number)) for number in numbers])], unit=" %", maximum=100,
        ),
        _states_chart(moments, numbers, states),
    ]  # fmt: skip


class CachedCharts(CachedValue[list[Chart]]):
    """The four charts of the page, shared by its viewers."""

    def __init__(self) -> None:
        super().__init__(read_charts, _CACHE_S)


def _rows(statement: str, values: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        return list(cursor.fetchall())


def _jobs_chart(
    moments: list[datetime], numbers: range, ended: Mapping[int, int], started: Mapping[int, tuple[int, float | None]]
) -> Chart:
    series = [
        Series("started", "tone-info", [started.get(number, (0, None))[0] for number in numbers]),
        Series("ended", "tone-good", [ended.get(number, 0) for number in numbers]),
    ]
    return chart("jobs", "Jobs in five minutes", moments, series)


def _states_chart(moments: list[datetime], numbers: range, states: Mapping[int, Mapping[str, int]]) -> Chart:
    series = [
        Series(name, tone, [states[number].get(name, 0) if number in states else None for number in numbers])
        for name, tone in _STATES
        if name != "other" or any("other" in found for found in states.values())
    ]
    return chart("states", "Shards with heartbeats, by state", moments, series, stacked=True)


def _percent(use: tuple[int, int] | None) -> float | None:
    return 100 * use[0] / use[1] if use and use[1] else None
