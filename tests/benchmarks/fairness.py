"""Fairness among tenants on busy shards, although one tenant submits a hundred times as many jobs as another."""

from __future__ import annotations

import random

from jobs.dispatch.fair_share import TenantView
from jobs.dispatch.routing import RoutableShard
from myctobot.contract.shards import class_queue, shard_class, shard_queue
from tests.benchmarks.result import Check, Result
from tests.benchmarks.simulated_line import Arrival, SimulatedQueue, durations, jain, weight_of

TARGET = 0.95
TENANTS = 20
DAY_S = 8 * 3600.0
# One number is below the number of tenants, and one above.
SLOTS = (4, 32)
FLOODED = 10_000
_SEED = 4


def measure() -> Result:
    """Simulate a working day with few and with many slots, and the same days dispatched by age alone."""
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


def shards(slots: int) -> list[RoutableShard]:
    """Return shards of two classes with the given number of slots in total."""
    found = []
    for number in range(2):
        names = ["filesystem", "git"] if number == 0 else ["browser", "filesystem", "git"]
        found.append(
            RoutableShard(
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
    """Return Jain's index of a day on which every tenant always has work, and every fourth floods the queue."""
    chance, tenants = random.Random(_SEED), _tenants()
    enough = round(DAY_S * slots / 300)
    arrivals = [
        Arrival(chance.uniform(0, 60), tenant, "git", durations(chance, (60, 300, 900)[tenant % 5 % 3]))
        for tenant in tenants
        for _ in range(enough * (10 if tenant % 4 == 0 else 1))
    ]
    queue = SimulatedQueue(shards(slots), tenants, fifo=fifo)
    queue.play(arrivals, DAY_S)
    return jain([queue.used_s[tenant] / weight_of(tenants, tenant) for tenant in tenants])


def _newcomer_turns(slots: int) -> float:
    """Return the longest wait of a tenant's first job behind ten thousand one-minute jobs, in turns of a slot."""
    flood = [Arrival(0.0, 0, "git", 60.0) for _ in range(FLOODED)]
    worst = 0.0
    for number in range(20):
        queue = SimulatedQueue(shards(slots))
        queue.play([*flood, Arrival(300.0 + 7.3 * number, 1, "git", 60.0)], 1000.0)
        worst = max(worst, queue.waits_s[1][0] / 60.0)
    return round(worst, 2)
