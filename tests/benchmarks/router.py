"""Routing decisions a second over a thousand shards, from empty to nearly full."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Sequence

from jobs.dispatch.routing import UNASSIGNED_PRIORITY, AssignmentView, NoRoute, RoutableShard, Route, Snapshot, route
from tests.benchmarks.memory import memory_of
from tests.benchmarks.result import Check, Result, percentile
from tests.benchmarks.world import SHARDS, SLOTS, assignments, job_requests, shards

TARGET = 150_000
_ROUNDS = 60
# Later jobs are mostly refused, which has a figure of its own.
_FILLED = SHARDS * SLOTS * 9 // 10
_BY_SCAN = 300


def measure() -> Result:
    """Fill the slots of the same installation several times, each time with an empty cache."""
    wanted = job_requests(_FILLED)
    costs_us = [_fill(wanted) for _ in range(_ROUNDS)]
    rate = round(1e6 / (sum(costs_us) / len(costs_us)))
    wrong = _differences(wanted)
    return Result(
        "router",
        rate,
        "decisions/s",
        _scan_rate(wanted),
        TARGET,
        {
            "shards": SHARDS,
            "slots_filled": _FILLED,
            "us_p50": round(percentile(costs_us, 50), 2),
            "us_p99": round(percentile(costs_us, 99), 2),
            "refusals_per_s": _refusal_rate(wanted),
            "rss_mb": memory_of(os.getpid()).rss,
            "peer": "the same rules as one scan over all shards for each job",
        },
        more_is_better=True,
        checks=(Check("decisions that differ from the scan's", wrong, 0, "decisions"),),
    )


def _fill(wanted: Sequence[tuple[int, tuple[str, ...]]]) -> float:
    """Return the microseconds of a decision, including the placement."""
    snapshot = Snapshot(shards(), assignments())
    began = time.perf_counter()
    for tenant, needs in wanted:
        where = route(tenant, needs, snapshot)
        if isinstance(where, Route):
            snapshot.place(where)
    return (time.perf_counter() - began) * 1e6 / len(wanted)


def _refusal_rate(wanted: Sequence[tuple[int, tuple[str, ...]]]) -> int:
    """Return the refusals a second when all slots are full, each with its message."""
    snapshot = Snapshot(shards(running=SLOTS), assignments())
    began = time.perf_counter()
    for tenant, needs in wanted[:1000]:
        assert isinstance(route(tenant, needs, snapshot), NoRoute)
    return round(1000 / (time.perf_counter() - began))


def _scan_rate(wanted: Sequence[tuple[int, tuple[str, ...]]]) -> int:
    rights, where = assignments(), shards()
    began = time.perf_counter()
    for tenant, needs in wanted[:_BY_SCAN]:
        choose_by_scan(tenant, needs, where, rights, Counter())
    return round(_BY_SCAN / (time.perf_counter() - began))


def _differences(wanted: Sequence[tuple[int, tuple[str, ...]]]) -> int:
    """Return the number of decisions that differ from those of the scan under the same load."""
    rights, where = assignments(), shards()
    snapshot, sent = Snapshot(where, rights), Counter[str]()
    wrong = 0
    for number, (tenant, needs) in enumerate(wanted):
        found = route(tenant, needs, snapshot)
        queue = found.queue if isinstance(found, Route) else None
        # Only every tenth decision is compared, because the scan is slow.
        if number % 10 == 0:
            wrong += choose_by_scan(tenant, needs, where, rights, sent) != queue
        if isinstance(found, Route):
            snapshot.place(found)
            sent[found.queue] += 1
    return wrong


def choose_by_scan(
    tenant: int,
    needs: Sequence[str],
    where: Sequence[RoutableShard],
    rights: dict[int, tuple[AssignmentView, ...]],
    sent: Counter[str],
) -> str | None:
    """Choose a class queue by a scan of all shards, or None when no slot is free; it ignores assigned shards."""
    free, slots, rank = Counter[str](), Counter[str](), {}
    for shard in where:
        if not set(needs) <= shard.capabilities:
            continue
        fitting = [entry for entry in rights.get(tenant, ()) if entry.pool == shard.pool]
        if shard.pool is not None and not fitting:
            continue
        right = min(((not e.is_default, e.priority) for e in fitting), default=(True, UNASSIGNED_PRIORITY))
        free[shard.class_queue] += shard.free
        slots[shard.class_queue] += shard.slots
        rank[shard.class_queue] = (*right, len(shard.capabilities))
    left = {queue: count - sent[queue] for queue, count in free.items() if count > sent[queue]}
    return min(left, key=lambda queue: (rank[queue], 1 - left[queue] / slots[queue], queue), default=None)
