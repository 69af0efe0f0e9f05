"""What the charts of the operators' page are drawn of: the last three hours, in columns of five minutes."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from django.db import connection

from myctobot.dashboards.ops.charts import Chart, Series, chart
from myctobot.lib.clock import database_now
from myctobot.lib.ttl_cache import Remembered

COLUMN: Final = timedelta(minutes=5)
COLUMNS: Final = 36
# Charts move slowly; however many look at them, each web process reads this at most so often.
_REMEMBERED_S: Final = 20.0

# What began since then has ended since then, or is running: both are found by indexes over few rows.
_ENDED = """
    SELECT floor(extract(epoch FROM finished_at) / %(column)s)::bigint, count(*)
    FROM jobs_job WHERE finished_at >= %(since)s GROUP BY 1
"""
_STARTED = """
    SELECT floor(extract(epoch FROM started_at) / %(column)s)::bigint, count(*),
        -- What was tried again has waited anew since its start: it says nothing of the wait for that one.
        percentile_cont(0.95) WITHIN GROUP (ORDER BY extract(epoch FROM started_at - ready_at)::float8)
            FILTER (WHERE ready_at <= started_at)
    FROM (
        SELECT started_at, ready_at FROM jobs_job WHERE finished_at >= %(since)s
        UNION ALL SELECT started_at, ready_at FROM jobs_job WHERE status = 'running'
    ) AS recent
    WHERE started_at >= %(since)s GROUP BY 1
"""
# Of each column the last samples alone: all shards have theirs at the same moment.
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
    """The four charts, read anew."""
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
        of_column = states.setdefault(number, {})
        name = state if state in dict(_STATES) else "other"
        of_column[name] = of_column.get(name, 0) + count
        taken, room = use.get(number, (0, 0))
        use[number] = (taken + running, room + slots)
    return [
        _jobs(moments, numbers, ended, started),
        chart(
            "wait", "How long jobs waited (p95)", moments,
            [Series("waited", "tone-warn", [started.get(number, (0, None))[1] for number in numbers])], unit=" s",
        ),
        chart(
            "utilisation", "Slots in use", moments,
            [Series("in use", "tone-info", [_percent(use.get(number)) for number in numbers])], unit=" %", most=100,
        ),
        _by_state(moments, numbers, states),
    ]  # fmt: skip


charts = Remembered(read_charts, _REMEMBERED_S)


def _rows(statement: str, values: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        return list(cursor.fetchall())


def _jobs(
    moments: list[datetime], numbers: range, ended: Mapping[int, int], started: Mapping[int, tuple[int, float | None]]
) -> Chart:
    series = [
        Series("started", "tone-info", [started.get(number, (0, None))[0] for number in numbers]),
        Series("ended", "tone-good", [ended.get(number, 0) for number in numbers]),
    ]
    return chart("jobs", "Jobs in five minutes", moments, series)


def _by_state(moments: list[datetime], numbers: range, states: Mapping[int, Mapping[str, int]]) -> Chart:
    series = [
        Series(name, tone, [states[number].get(name, 0) if number in states else None for number in numbers])
        for name, tone in _STATES
        if name != "other" or any("other" in found for found in states.values())
    ]
    return chart("states", "Shards that are heard of, by state", moments, series, stacked=True)


def _percent(use: tuple[int, int] | None) -> float | None:
    return 100 * use[0] / use[1] if use and use[1] else None
