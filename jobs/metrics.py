"""Prometheus metrics about jobs, read from the database and the broker at each scrape."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import accumulate
from typing import Final

from django.db import connection
from prometheus_client.core import HistogramMetricFamily, Metric

from jobs.dispatch.round_metrics import BUCKETS_S, round_clock
from jobs.maintenance.totals import ATTEMPTS, JOBS, USAGE
from jobs.models.states import LIVE_ATTEMPTS, AttemptState, Hold
from jobs.queue.class_status import ClassStatus, classes
from myctobot.contract.jobs import TERMINAL
from myctobot.lib.prometheus import bounded, counter, gauge, number
from shards.metrics.totals import read_total

_WAITING = """
    SELECT hold, count(*), greatest(0, extract(epoch FROM statement_timestamp() - min(ready_at)))::float8
    FROM jobs_job WHERE status = 'queued' GROUP BY hold
"""
_HOLDS: Final = {Hold.NONE: "ready", Hold.DISPATCHED: "sent", Hold.DELAYED: "time", Hold.CONCURRENCY: "key"}
_CLASSES: Final = (
    ("class_shards", "Shards of a class.", "shards"),
    ("class_shards_healthy", "Shards of a class that take jobs.", "healthy"),
    ("class_slots", "Slots of the shards of a class that take jobs.", "slots"),
    ("class_slots_running", "Jobs that run on shards of a class.", "running"),
    ("class_slots_free", "Slots of a class that are neither occupied nor reserved by a sent job.", "free"),
    ("queue_messages", "Messages in the queue of a class; missing when the broker cannot be reached.", "messages"),
    ("queue_ready_jobs", "Ready jobs that the class could take.", "ready"),
    ("queue_oldest_wait_seconds", "Longest wait of the ready jobs that the class could take.", "oldest_wait_s"),
)


def collect() -> Iterator[Metric]:
    """Yield all metric families about jobs."""
    yield from _waiting()
    yield from _classes()
    ended = {str(status): 0.0 for status in TERMINAL} | read_total(JOBS)
    yield counter("jobs_ended", "Ended jobs by status.", ["status"], ended)
    ended_attempts = {str(state): 0.0 for state in AttemptState if state not in LIVE_ATTEMPTS} | read_total(ATTEMPTS)
    yield counter("attempts_ended", "Ended attempts by state: reported, withdrawn or lost.", ["state"], ended_attempts)
    yield from _usage()
    yield from _rounds()
    yield from _callbacks()


def _waiting() -> Iterator[Metric]:
    with connection.cursor() as cursor:
        cursor.execute(_WAITING)
        found = {hold: (count, oldest_s) for hold, count, oldest_s in cursor.fetchall()}
        cursor.execute("SELECT state, count(*) FROM jobs_attempt WHERE state IN ('sent', 'running') GROUP BY state")
        live = dict(cursor.fetchall())
    holds = [((name,), found.get(hold.value, (0, 0.0))) for hold, name in _HOLDS.items()]
    yield gauge(
        "jobs_waiting",
        "Queued jobs by the cause of their wait.",
        ["state"],
        [(name, count) for name, (count, _) in holds],
    )
    # Delayed jobs are not counted, because their ``ready_at`` lies in the future.
    yield number("jobs_oldest_wait_seconds", "Longest wait of the ready jobs.", holds[0][1][1])
    states = [((str(state),), live.get(str(state), 0)) for state in sorted(LIVE_ATTEMPTS)]
    yield gauge("attempts_live", "Sent and running attempts.", ["state"], states)


def _classes() -> Iterator[Metric]:
    # Export the largest classes one by one and merge the others, which bounds the number of labels.
    found = sorted(classes(), key=lambda one: (-one.slots, -one.shards, one.name))
    kept = bounded([(one.name, one) for one in found], _merged)
    for name, text, field in _CLASSES:
        rows = [((label,), getattr(one, field)) for label, one in kept]
        yield gauge(name, text, ["class"], rows)
    reached = not found or any(one.messages is not None for one in found)
    yield number("broker_up", "1 when the broker answered, else 0.", float(reached and round_clock.read() is not None))


def _merged(one: ClassStatus, other: ClassStatus) -> ClassStatus:
    waits = [status.oldest_wait_s for status in (one, other) if status.oldest_wait_s is not None]
    depths = [status.messages for status in (one, other) if status.messages is not None]
    sums = {
        name: getattr(one, name) + getattr(other, name)
        for name in ("shards", "healthy", "slots", "running", "free", "ready")
    }
    return replace(one, **sums, messages=sum(depths) if depths else None, oldest_wait_s=max(waits) if waits else None)


def _usage() -> Iterator[Metric]:
    used = read_total(USAGE)
    tokens = {kind: used.get(f"{kind}_tokens", 0.0) for kind in ("input", "output")}
    yield counter("agent_tokens", "Tokens used by agents of ended attempts.", ["kind"], tokens)
    yield counter("agent_turns", "Turns of agents of ended attempts.", (), {"": used.get("turns", 0.0)})
    cost = {"": used.get("cost_usd", 0.0)}
    yield counter("agent_cost_dollars", "Cost of ended attempts as estimated by agents.", (), cost)


def _rounds() -> Iterator[Metric]:
    times = round_clock.read()
    if times is None:
        return
    bounds = [*map(str, BUCKETS_S), "+Inf"]
    family = HistogramMetricFamily("myctobot_dispatch_round_duration_seconds", "Duration of dispatch rounds.")
    family.add_metric([], list(zip(bounds, accumulate(times.buckets), strict=True)), times.seconds)
    yield family
    yield counter("dispatch_attempts_sent", "Attempts sent by dispatch rounds.", (), {"": float(times.sent)})


def _callbacks() -> Iterator[Metric]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM jobs_callback WHERE state = 'waiting'")
        (waiting,) = cursor.fetchone()
    yield number("callbacks_waiting", "Callbacks that wait for delivery.", waiting)
