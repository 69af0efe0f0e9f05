"""What Prometheus is told of jobs: read from the database and the broker whenever it asks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import accumulate
from typing import Final

from django.db import connection
from prometheus_client.core import HistogramMetricFamily, Metric

from jobs.broker import round_clock
from jobs.dispatch.round_metrics import BUCKETS_S
from jobs.maintenance.totals import ATTEMPTS, JOBS, USAGE
from jobs.models.states import LIVE_ATTEMPTS, AttemptState, Hold
from jobs.queue.class_status import ClassStand, classes
from myctobot.contract.jobs import TERMINAL
from myctobot.lib.prometheus import bounded, counter, gauge, number
from shards.metrics.totals import read

_WAITING = """
    SELECT hold, count(*), greatest(0, extract(epoch FROM statement_timestamp() - min(ready_at)))::float8
    FROM jobs_job WHERE status = 'queued' GROUP BY hold
"""
_HOLDS: Final = {Hold.NONE: "ready", Hold.SENT: "sent", Hold.TIME: "time", Hold.KEY: "key"}
_CLASSES: Final = (
    ("class_shards", "Shards of a class.", "shards"),
    ("class_shards_well", "Shards of a class that take jobs.", "well"),
    ("class_slots", "Slots of the shards of a class that take jobs.", "slots"),
    ("class_slots_running", "Jobs that run on shards of a class.", "running"),
    ("class_slots_free", "Slots of a class that nothing has taken nor is on its way to.", "free"),
    ("queue_messages", "Messages in the broker for a class; none when it cannot be reached.", "messages"),
    ("queue_ready_jobs", "Jobs that wait for a slot and that the class could take.", "ready"),
    ("queue_oldest_wait_seconds", "How long the first of them has waited.", "oldest_wait_s"),
)


def collect() -> Iterator[Metric]:
    """All families about jobs."""
    yield from _waiting()
    yield from _classes()
    ended = {str(status): 0.0 for status in TERMINAL} | read(JOBS)
    yield counter("jobs_ended", "Jobs that ended, by how.", ["status"], ended)
    burnt = {str(state): 0.0 for state in AttemptState if state not in LIVE_ATTEMPTS} | read(ATTEMPTS)
    yield counter("attempts_ended", "Attempts that ended: reported, withdrawn, or lost.", ["state"], burnt)
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
        "jobs_waiting", "Queued jobs by what they wait for.", ["state"], [(name, count) for name, (count, _) in holds]
    )
    # What is parked waits for nobody; its ``ready_at`` lies ahead.
    yield number("jobs_oldest_wait_seconds", "How long the first of the ready jobs has waited.", holds[0][1][1])
    states = [((str(state),), live.get(str(state), 0)) for state in sorted(LIVE_ATTEMPTS)]
    yield gauge("attempts_live", "Attempts on their way to a slot, and those that run.", ["state"], states)


def _classes() -> Iterator[Metric]:
    # The largest are named; what is left of a thousand kinds is one.
    found = sorted(classes(), key=lambda one: (-one.slots, -one.shards, one.name))
    kept = bounded([(one.name, one) for one in found], _merged)
    for name, text, field in _CLASSES:
        rows = [((label,), getattr(one, field)) for label, one in kept]
        yield gauge(name, text, ["class"], rows)
    reached = not found or any(one.messages is not None for one in found)
    yield number("broker_up", "Whether the broker answered.", float(reached and round_clock.read() is not None))


def _merged(one: ClassStand, other: ClassStand) -> ClassStand:
    waits = [stand.oldest_wait_s for stand in (one, other) if stand.oldest_wait_s is not None]
    depths = [stand.messages for stand in (one, other) if stand.messages is not None]
    sums = {
        name: getattr(one, name) + getattr(other, name)
        for name in ("shards", "well", "slots", "running", "free", "ready")
    }
    return replace(one, **sums, messages=sum(depths) if depths else None, oldest_wait_s=max(waits) if waits else None)


def _usage() -> Iterator[Metric]:
    used = read(USAGE)
    tokens = {kind: used.get(f"{kind}_tokens", 0.0) for kind in ("input", "output")}
    yield counter("agent_tokens", "Tokens that agents of ended attempts have used.", ["kind"], tokens)
    yield counter("agent_turns", "Turns that agents of ended attempts have taken.", (), {"": used.get("turns", 0.0)})
    cost = {"": used.get("cost_usd", 0.0)}
    yield counter("agent_cost_dollars", "What providers charge for ended attempts, as agents reckon it.", (), cost)


def _rounds() -> Iterator[Metric]:
    times = round_clock.read()
    if times is None:
        return
    bounds = [*map(str, BUCKETS_S), "+Inf"]
    family = HistogramMetricFamily("myctobot_dispatch_round_duration_seconds", "How long dispatch rounds take.")
    family.add_metric([], list(zip(bounds, accumulate(times.buckets), strict=True)), times.seconds)
    yield family
    yield counter("dispatch_attempts_sent", "Attempts that dispatch rounds have sent.", (), {"": float(times.sent)})


def _callbacks() -> Iterator[Metric]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM jobs_callback WHERE state = 'waiting'")
        (waiting,) = cursor.fetchone()
    yield number("callbacks_waiting", "Callbacks that were not delivered yet.", waiting)
