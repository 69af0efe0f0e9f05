"""Day of bursts with an autoscaled pool, compared with a fixed pool of the same cost."""

from __future__ import annotations

import math
import random
from datetime import UTC, datetime
from typing import Any

from shards.autoscaling.rules import RuleSet, read_rules
from shards.autoscaling.simulation import Arrival, SimulationOutcome, World, simulate
from shards.autoscaling.simulation_report import figures
from tests.benchmarks.result import Check, Result

TARGET = 1.0
_SEED = 9
_HOUR_S = 3600.0
# Jobs an hour, from midnight on: quiet nights, a long noon.
_HOURLY = (4, 3, 2, 2, 2, 4, 10, 30, 60, 80, 80, 70, 40, 70, 80, 70, 60, 40, 20, 15, 10, 8, 6, 4)
# A bot that handles a release or migrates many repositories submits such bursts: the hour, and the jobs in one minute.
_BURSTS = ((2.5, 30), (10.25, 60), (15.0, 60), (20.0, 40))
_MEAN_S = 420.0
_MAX_SHARDS = 20


def measure() -> Result:
    """Simulate the day with the autoscaled pool and with a fixed pool that costs at least as much."""
    world = World(datetime(2026, 11, 26, tzinfo=UTC), slots=2, build_s=60)
    jobs = _day()
    ours = simulate(_rules(2, _MAX_SHARDS), jobs, world)
    hours = ours.shard_s / _HOUR_S
    fixed = math.ceil(hours / 24)
    theirs = simulate(_rules(fixed, fixed), jobs, world)
    always_most = simulate(_rules(_MAX_SHARDS, _MAX_SHARDS), jobs, world)
    peer = _p95_minutes(theirs)
    return Result(
        "autoscale_day",
        _p95_minutes(ours),
        "min",
        peer,
        round(TARGET * peer, 2),
        {
            "unit": "minutes that 95 % of a day's jobs wait for a slot at most",
            **figures(ours),
            "peer": f"{fixed} shards all day",
            "peer_figures": figures(theirs),
            "most_shards_all_day": figures(always_most),
        },
        checks=(
            Check("flaps", ours.flaps, 0, "times"),
            Check(
                "shard-hours, of those of the most shards all day",
                round(hours / (24 * _MAX_SHARDS), 2),
                0.6,
                "of them",
            ),
        ),
    )


def _p95_minutes(outcome: SimulationOutcome) -> float:
    return round(outcome.wait_s(0.95) / 60, 2)


def _rules(minimum: int, maximum: int) -> RuleSet:
    rules: dict[str, Any] = {
        "scale_up": {"condition": "avg_queue_wait > 30s AND all_shards_at_capacity", "cooldown": "5m"},
        "scale_down": {"condition": "shard_idle > 30m AND shard_count > min_shards", "cooldown": "15m"},
        "limits": {"min_shards": minimum, "max_shards": maximum, "max_shards_per_type": maximum},
        "wait_target": "1m",
    }
    return read_rules(rules)


def _day() -> list[Arrival]:
    chance = random.Random(_SEED)
    hourly = [
        Arrival(chance.uniform(hour, hour + 1) * _HOUR_S, 0) for hour, jobs in enumerate(_HOURLY) for _ in range(jobs)
    ]
    bursts = [Arrival(at * _HOUR_S + chance.uniform(0, 60), 0) for at, jobs in _BURSTS for _ in range(jobs)]
    return [arrival._replace(length_s=30 + chance.expovariate(1 / _MEAN_S)) for arrival in (*hourly, *bursts)]
