"""How evenly tenants share busy shards, though one submits a hundred times as much as another."""

from __future__ import annotations

import random

from jobs.dispatch.fair_share import TenantView
from jobs.dispatch.routing import ShardView
from myctobot.contract.jobs import class_queue, shard_class, shard_queue
from tests.benchmarks.result import Check, Result
from tests.benchmarks.simulated_line import Arrival, Line, durations, jain, weight_of

TARGET = 0.95
TENANTS = 20
DAY_S = 8 * 3600.0
# Fewer slots than tenants, and more.
SLOTS = (4, 32)
FLOODED = 10_000
_SEED = 4


def measure() -> Result:
    """Play a working day with few and with many slots, and once by age alone."""
    few, many = (_share(slots) for slots in SLOTS)
    newcomer_turns = max(_newcomer_turns(slots) for slots in SLOTS)
    return Result(
        "fairness",
        round(min(few, many), 3),
        "Jain's index",
        round(min(_share(slots, fifo=True) for slots in SLOTS), 3),
        TARGET,
        {
            "unit": "of slot-seconds over weight, of tenants that always have jobs waiting; 1 is even",
            "tenants": TENANTS,
            "slots": {str(slots): round(value, 3) for slots, value in zip(SLOTS, (few, many), strict=True)},
            "peer": "the same day dispatched by age alone",
        },
        more_is_better=True,
        checks=(Check("turns of a slot that 10,000 waiting jobs delay another's first", newcomer_turns, 1, "turns"),),
    )


def shards(slots: int) -> list[ShardView]:
    """Shards of two classes, with so many slots in all."""
    found = []
    for number in range(2):
        names = ["filesystem", "git"] if number == 0 else ["browser", "filesystem", "git"]
        found.append(
            ShardView(
                name=f"shard-{number}",
                shard_class=shard_class(names),
                class_queue=class_queue(names),
                own_queue=shard_queue(f"shard-{number}"),
                capabilities=frozenset(names),
                pool=None,
                slots=slots // 2,
                running=0,
            )
        )
    return found


def _tenants() -> dict[int, TenantView]:
    return {tenant: TenantView(weight=(50, 100, 200)[tenant % 3]) for tenant in range(TENANTS)}


def _share(slots: int, *, fifo: bool = False) -> float:
    """Everybody has work for the whole day; the loud ones a hundred times as much, and jobs of other lengths."""
    pick, tenants = random.Random(_SEED), _tenants()
    enough = round(DAY_S * slots / 300)
    arrivals = [
        Arrival(pick.uniform(0, 60), tenant, "git", durations(pick, (60, 300, 900)[tenant % 5 % 3]))
        for tenant in tenants
        for _ in range(enough * (10 if tenant % 4 == 0 else 1))
    ]
    line = Line(shards(slots), tenants, fifo=fifo)
    line.play(arrivals, DAY_S)
    return jain([line.used_s[tenant] / weight_of(tenants, tenant) for tenant in tenants])


def _newcomer_turns(slots: int) -> float:
    """In turns of a slot, how long another's first job waits behind ten thousand jobs of a minute each."""
    flood = [Arrival(0.0, 0, "git", 60.0) for _ in range(FLOODED)]
    worst = 0.0
    for number in range(20):
        line = Line(shards(slots))
        line.play([*flood, Arrival(300.0 + 7.3 * number, 1, "git", 60.0)], 1000.0)
        worst = max(worst, line.waits_s[1][0] / 60.0)
    return round(worst, 2)
