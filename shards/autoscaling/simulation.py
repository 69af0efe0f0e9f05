"""Simulation of a rule set with jobs that arrive at given times; pure.

Jobs start in the order of their arrival, on the least loaded shard first, as the router places them. A new shard takes
some time to build. A released shard is idle, so it is gone at once. The rules are evaluated every few seconds.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import count
from typing import Final, NamedTuple

from shards.autoscaling.decisions import Action, PoolView, ScalableShard, decide
from shards.autoscaling.rules import RuleSet

# A build within this time after a release counts as a flap.
FLAP_S: Final = 1800.0


class Arrival(NamedTuple):
    """Arrival of a job.

    Attributes:
        at_s: seconds after the start.
        length_s: how long the job runs.
    """

    at_s: float
    length_s: float


@dataclass(frozen=True)
class World:
    """Parameters of the simulation beyond the rules.

    Attributes:
        start: start of the simulated time, UTC.
        shard_type: type of all shards.
        slots: slots of each shard.
        build_s: time from the request for a shard until it takes jobs.
        every_s: interval between evaluations of the rules.
    """

    start: datetime
    shard_type: str = "general"
    slots: int = 1
    build_s: float = 60.0
    every_s: float = 10.0


class Moment(NamedTuple):
    """State of the pool at one evaluation of the rules."""

    at_s: float
    shards: int
    running: int
    waiting: int


@dataclass
class SimulationOutcome:
    """Outcome of a simulation.

    Attributes:
        waits_s: wait of each job, in the order of arrival.
        shard_s: total seconds for which shards existed or were being built.
        changes: time in seconds, number of shards requested (negative: released) and reason.
    """

    waits_s: list[float] = field(default_factory=list)
    shard_s: float = 0.0
    changes: list[tuple[float, int, str]] = field(default_factory=list)
    moments: list[Moment] = field(default_factory=list)

    @property
    def flaps(self) -> int:
        """Count the shards that were requested soon after a release."""
        removed, flaps = -math.inf, 0
        for at_s, shards, _ in self.changes:
            if shards < 0:
                removed = at_s
            elif at_s - removed < FLAP_S:
                flaps, removed = flaps + 1, -math.inf
        return flaps

    def wait_s(self, share: float) -> float:
        """Return the quantile of the waits for a share such as 0.95."""
        waits = sorted(self.waits_s)
        return waits[max(0, math.ceil(share * len(waits)) - 1)] if waits else 0.0


@dataclass
class _Shard:
    name: str
    requested_s: float
    ready: bool = False
    running: int = 0
    idle_since_s: float | None = None


def simulate(rules: RuleSet, arrivals: Iterable[Arrival], world: World) -> SimulationOutcome:
    """Simulate until every job has ended.

    Args:
        arrivals: jobs in any order.
    """
    return _Simulation(rules, sorted(arrivals), world).run()


class _Simulation:
    def __init__(self, rules: RuleSet, arrivals: Sequence[Arrival], world: World) -> None:
        self._rules, self._world, self._arrivals = rules, world, arrivals
        self._shards: dict[str, _Shard] = {}
        self._waiting: deque[int] = deque()
        self._left = len(arrivals)
        self._built_s: float | None = None
        self._removed_s: float | None = None
        self._names, self._order = count(1), count()
        # Heap of coming events: time, sequence number, shard, and True for the end of a job.
        self._events: list[tuple[float, int, str, bool]] = []
        self._out = SimulationOutcome(waits_s=[0.0] * len(arrivals))
        # Start with the minimum ready, like a pool that has run for a while.
        for _ in range(rules.minimum_at(world.start)):
            shard = self._new(0.0)
            shard.ready, shard.idle_since_s = True, 0.0

    def run(self) -> SimulationOutcome:
        """Step from event to event until no job is left."""
        coming = deque(enumerate(self._arrivals))
        evaluate_s = 0.0
        while self._left:
            now_s = min(
                evaluate_s,
                coming[0][1].at_s if coming else math.inf,
                self._events[0][0] if self._events else math.inf,
            )
            while self._events and self._events[0][0] <= now_s:
                self._apply_event(now_s)
            while coming and coming[0][1].at_s <= now_s:
                self._waiting.append(coming.popleft()[0])
            self._place_jobs(now_s)
            if now_s >= evaluate_s:
                self._evaluate(now_s)
                evaluate_s = now_s + self._world.every_s
        self._out.shard_s += (
            sum(now_s - shard.requested_s for shard in self._shards.values()) if self._arrivals else 0.0
        )
        return self._out

    def _new(self, now_s: float) -> _Shard:
        shard = _Shard(f"shard-{next(self._names):04}", now_s)
        self._shards[shard.name] = shard
        return shard

    def _apply_event(self, now_s: float) -> None:
        _, _, name, job_ends = heapq.heappop(self._events)
        shard = self._shards[name]
        if job_ends:
            shard.running -= 1
            self._left -= 1
        else:
            shard.ready = True
        if not shard.running:
            shard.idle_since_s = now_s

    def _place_jobs(self, now_s: float) -> None:
        free = [(shard.running, shard.name) for shard in self._shards.values() if shard.ready]
        heapq.heapify(free)
        while self._waiting and free and free[0][0] < self._world.slots:
            running, name = free[0]
            number = self._waiting.popleft()
            job, shard = self._arrivals[number], self._shards[name]
            self._out.waits_s[number] = now_s - job.at_s
            shard.running, shard.idle_since_s = running + 1, None
            heapq.heapreplace(free, (running + 1, name))
            heapq.heappush(self._events, (now_s + job.length_s, next(self._order), name, True))

    def _evaluate(self, now_s: float) -> None:
        world = self._world
        decision = decide(self._rules, self._view(now_s), world.shard_type, self._at(now_s))
        if decision.action is Action.BUILD:
            self._built_s = now_s
            for _ in range(decision.count):
                shard = self._new(now_s)
                heapq.heappush(self._events, (now_s + world.build_s, next(self._order), shard.name, False))
            self._out.changes.append((now_s, decision.count, decision.reason))
        elif decision.remove is not None:
            self._removed_s = now_s
            self._out.shard_s += now_s - self._shards.pop(decision.remove).requested_s
            self._out.changes.append((now_s, -1, decision.reason))
        running = sum(shard.running for shard in self._shards.values())
        self._out.moments.append(Moment(now_s, len(self._shards), running, len(self._waiting)))

    def _view(self, now_s: float) -> PoolView:
        shards = [
            ScalableShard(
                shard.name, self._world.shard_type, shard.ready, False, shard.running, self._world.slots,
                None if shard.idle_since_s is None else self._at(shard.idle_since_s),
            )
            for shard in self._shards.values()
        ]  # fmt: skip
        waits = [now_s - self._arrivals[number].at_s for number in self._waiting]
        built, removed = (None if at_s is None else self._at(at_s) for at_s in (self._built_s, self._removed_s))
        return PoolView(shards, waits, built, removed, self._world.slots)

    def _at(self, seconds: float) -> datetime:
        return self._world.start + timedelta(seconds=seconds)
