"""Collector of the Prometheus metrics about shards, read from the database on each scrape."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from django.db import connection
from prometheus_client.core import Metric

from myctobot.lib.prometheus import MAX_VALUES as MAX_POOLS
from myctobot.lib.prometheus import OTHER, counter, gauge, number, summary
from shards.metrics.totals import CounterSource, read_total
from shards.models import ShardState

# Ephemeral pools end one operation per job, so operations are counted like jobs.
OPERATIONS: Final = CounterSource(
    "operations",
    """
    SELECT what || ' ' || kind || ' ' || state, CASE what WHEN 'count' THEN count(*)
        ELSE sum(extract(epoch FROM ended_at - COALESCE(started_at, requested_at)))::float8 END
    FROM shards_operation CROSS JOIN (VALUES ('count'), ('seconds')) AS measure(what)
    WHERE ended_at > %(after)s::timestamptz AND ended_at <= %(until)s::timestamptz GROUP BY what, kind, state
    """,
)
STATE_CHANGES: Final = CounterSource(
    "state_changes",
    """
    SELECT state, count(*) FROM shards_statechange
    WHERE at > %(after)s::timestamptz AND at <= %(until)s::timestamptz GROUP BY state
    """,
)
DECISIONS: Final = CounterSource(
    "scaling_decisions",
    """
    SELECT concat_ws(' ', pool.name, CASE WHEN change > 0 THEN 'grow' ELSE 'shrink' END,
        is_dry_run::text, (error <> '')::text), count(*)
    FROM shards_scalingdecision JOIN shards_pool AS pool ON pool.id = pool_id
    WHERE change <> 0 AND at > %(after)s::timestamptz AND at <= %(until)s::timestamptz GROUP BY 1
    """,
)
SOURCES: Final = (OPERATIONS, STATE_CHANGES, DECISIONS)

# One row per shard; shards that are gone are excluded.
_SHARDS = """
    SELECT name, extract(epoch FROM statement_timestamp() - last_heartbeat_at)::float8,
        max_concurrent_jobs, report->>'slots', report->>'cpu_percent', report->>'memory_mb', report->>'memory_total_mb',
        report->>'disk_free_mb', jsonb_array_length(CASE jsonb_typeof(report->'running') WHEN 'array'
            THEN report->'running' ELSE '[]' END)
    FROM shards_shard WHERE state <> 'gone' ORDER BY name
"""
_DROPPED_MESSAGES: Final = """
    SELECT name || ' ' || reason, count::float8
    FROM shards_shard CROSS JOIN jsonb_each_text(report->'dropped_messages') AS dropped(reason, count)
    WHERE state <> 'gone'
"""
_PER_SHARD: Final = (
    ("shard_heartbeat_age_seconds", "Age of a shard's last heartbeat; absent before the first."),
    ("shard_slots", "Usable slots of a shard."),
    ("shard_cpu_usage_ratio", "Last reported CPU usage of a shard, 0 to 1."),
    ("shard_memory_used_bytes", "Last reported memory in use on a shard."),
    ("shard_memory_total_bytes", "Memory of a shard."),
    ("shard_disk_free_bytes", "Last reported free disk of a shard."),
    ("shard_runners", "Last reported live runners on a shard."),
)
_MB: Final = 1024 * 1024


def collect() -> Iterator[Metric]:
    """Yield all metric families about shards."""
    yield from _states()
    yield from _each_shard()
    yield from _operations()
    yield counter("shard_state_changes", "Transitions into a state.", ["state"], read_total(STATE_CHANGES))
    yield counter(
        "scaling_decisions",
        "Decided changes of a pool's size; failed marks those that were not carried out.",
        ["pool", "direction", "dry_run", "failed"],
        _bound_pools(read_total(DECISIONS)),
    )
    yield from _alerts()


def _rows(statement: str) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return list(cursor.fetchall())


def _states() -> Iterator[Metric]:
    found = dict(_rows("SELECT state, count(*) FROM shards_shard GROUP BY state"))
    states = [((str(state),), found.get(str(state), 0)) for state in ShardState]
    yield gauge("shards", "Shards by their state.", ["state"], states)
    rows = _rows("SELECT count(*) FILTER (WHERE is_spare), count(*) FILTER (WHERE NOT is_active) FROM shards_shard")
    yield number("shards_spare", "Warm spares, which take no jobs yet.", rows[0][0])
    yield number("shards_switched_off", "Shards that operators switched off.", rows[0][1])


def _each_shard() -> Iterator[Metric]:
    rows = _rows(_SHARDS)
    figures = [(row[0], _figures(row)) for row in rows]
    for at, (name, text) in enumerate(_PER_SHARD):
        yield gauge(name, text, ["shard"], [((shard,), values[at]) for shard, values in figures])
    dropped = "Malformed messages that a shard's worker dropped since its start."
    yield counter("shard_messages_dropped", dropped, ["shard", "reason"], dict(_rows(_DROPPED_MESSAGES)))


def _figures(row: tuple[Any, ...]) -> list[float | None]:
    _, age_s, limit, slots, cpu, memory, memory_total, disk_free, runners = row
    return [
        None if age_s is None else max(0.0, age_s),
        min(limit, float(slots)) if slots is not None else limit,
        _scale(cpu, 0.01),
        _scale(memory, _MB),
        _scale(memory_total, _MB),
        _scale(disk_free, _MB),
        None if age_s is None else runners,
    ]


def _scale(value: Any, factor: float) -> float | None:
    # Reports are validated on arrival; an old report may lack a value.
    return None if value is None else float(value) * factor


def _operations() -> Iterator[Metric]:
    live = _rows(
        "SELECT kind, state, count(*) FROM shards_operation WHERE state IN ('queued', 'running') GROUP BY 1, 2"
    )
    yield gauge(
        "operations_live", "Operations that are queued or running.", ["kind", "state"],
        [((kind, state), count) for kind, state, count in live],
    )  # fmt: skip
    found = read_total(OPERATIONS)
    ended = {key.removeprefix("count "): count for key, count in found.items() if key.startswith("count ")}
    yield counter("operations_ended", "Operations that ended.", ["kind", "state"], ended)
    took = {key: (count, found.get(f"seconds {key}", 0.0)) for key, count in ended.items()}
    yield summary("operation_duration_seconds", "Duration of ended operations.", ["kind", "state"], took)


def _bound_pools(counts: dict[str, float]) -> dict[str, float]:
    pools = sorted({key.split(" ")[0] for key in counts})[:MAX_POOLS]
    kept: dict[str, float] = {}
    for key, count in counts.items():
        pool, _, rest = key.partition(" ")
        name = f"{pool if pool in pools else OTHER} {rest}"
        kept[name] = kept.get(name, 0.0) + count
    return kept


def _alerts() -> Iterator[Metric]:
    statement = """
        SELECT count(*), extract(epoch FROM statement_timestamp() - min(created_at))::float8
        FROM shards_alert WHERE ended_at IS NULL
    """
    ((count, oldest_s),) = _rows(statement)
    yield number("alerts_undelivered", "Alerts that are not delivered yet.", count)
    yield number("alerts_undelivered_oldest_age_seconds", "Age of the oldest undelivered alert.", oldest_s or 0)
