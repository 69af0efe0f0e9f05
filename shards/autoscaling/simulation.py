"""What a rule set would have done with jobs that came at given times; pure.

Shards take jobs in the order in which they came, the least loaded first, as the router gives them out. A new shard
takes some time to build, and one that is let go runs nothing, so it is gone at once. Rules are asked every few seconds.
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

from shards.autoscaling.decisions import Action, PoolView, ShardView, decide
from shards.autoscaling.rules import RuleSet

# A shard that is built so soon after one was let go need not have been let go.
FLAP_S: Final = 1800.0


class Arrival(NamedTuple):
    """A job.

    Attributes:
        at_s: when it came, seconds after the beginning.
        length_s: how long it runs.
    """

    at_s: float
    length_s: float


@dataclass(frozen=True)
class World:
    """What the rules do not say.

    Attributes:
        start: of the time that is played, UTC.
        shard_type: of all shards.
        slots: of each.
        build_s: from the wish for a shard to its first job.
        every_s: how often the rules are asked.
    """

    start: datetime
    shard_type: str = "general"
    slots: int = 1
    build_s: float = 60.0
    every_s: float = 10.0


class Moment(NamedTuple):
    """How the pool stood when the rules were asked."""

    at_s: float
    shards: int
    running: int
    waiting: int


@dataclass
class Outcome:
    """What came of it.

    Attributes:
        waits_s: of each job, in the order in which they came.
        shard_s: seconds that shards were there or being built.
        changes: by second, how many were asked for (or let go, below zero), and why.
    """

    waits_s: list[float] = field(default_factory=list)
    shard_s: float = 0.0
    changes: list[tuple[float, int, str]] = field(default_factory=list)
    moments: list[Moment] = field(default_factory=list)

    @property
    def flaps(self) -> int:
        """How often a shard was asked for soon after one was let go."""
        removed, flaps = -math.inf, 0
        for at_s, shards, _ in self.changes:
            if shards < 0:
                removed = at_s
            elif at_s - removed < FLAP_S:
                flaps, removed = flaps + 1, -math.inf
        return flaps

    def wait_s(self, share: float) -> float:
        """The wait that a share of the jobs, such as 0.95, did not pass."""
        waits = sorted(self.waits_s)
        return waits[max(0, math.ceil(share * len(waits)) - 1)] if waits else 0.0


@dataclass
class _Shard:
    name: str
    asked_s: float
    ready: bool = False
    running: int = 0
    idle_since_s: float | None = None


def simulate(rules: RuleSet, arrivals: Iterable[Arrival], world: World) -> Outcome:
    """Play until every job has ended.

    Args:
        arrivals: in any order.
    """
    return _Play(rules, sorted(arrivals), world).run()


class _Play:
    def __init__(self, rules: RuleSet, arrivals: Sequence[Arrival], world: World) -> None:
        self._rules, self._world, self._arrivals = rules, world, arrivals
        self._shards: dict[str, _Shard] = {}
        self._waiting: deque[int] = deque()
        self._left = len(arrivals)
        self._built_s: float | None = None
        self._removed_s: float | None = None
        self._names, self._order = count(1), count()
        # What happens next: when, in which order, the shard that it happens to, and whether a job of it ends.
        self._events: list[tuple[float, int, str, bool]] = []
        self._out = Outcome(waits_s=[0.0] * len(arrivals))
        # As a pool of that age would stand: with its minimum ready.
        for _ in range(rules.least_at(world.start)):
            shard = self._new(0.0)
            shard.ready, shard.idle_since_s = True, 0.0

    def run(self) -> Outcome:
        """Go on from one moment to the next at which something happens."""
        coming = deque(enumerate(self._arrivals))
        asked_s = 0.0
        while self._left:
            now_s = min(
                asked_s,
                coming[0][1].at_s if coming else math.inf,
                self._events[0][0] if self._events else math.inf,
            )
            while self._events and self._events[0][0] <= now_s:
                self._happen(now_s)
            while coming and coming[0][1].at_s <= now_s:
                self._waiting.append(coming.popleft()[0])
            self._give_out(now_s)
            if now_s >= asked_s:
                self._ask(now_s)
                asked_s = now_s + self._world.every_s
        self._out.shard_s += sum(now_s - shard.asked_s for shard in self._shards.values()) if self._arrivals else 0.0
        return self._out

    def _new(self, now_s: float) -> _Shard:
        shard = _Shard(f"shard-{next(self._names):04}", now_s)
        self._shards[shard.name] = shard
        return shard

    def _happen(self, now_s: float) -> None:
        _, _, name, job_ends = heapq.heappop(self._events)
        shard = self._shards[name]
        if job_ends:
            shard.running -= 1
            self._left -= 1
        else:
            shard.ready = True
        if not shard.running:
            shard.idle_since_s = now_s

    def _give_out(self, now_s: float) -> None:
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

    def _ask(self, now_s: float) -> None:
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
            self._out.shard_s += now_s - self._shards.pop(decision.remove).asked_s
            self._out.changes.append((now_s, -1, decision.reason))
        running = sum(shard.running for shard in self._shards.values())
        self._out.moments.append(Moment(now_s, len(self._shards), running, len(self._waiting)))

    def _view(self, now_s: float) -> PoolView:
        shards = [
            ShardView(
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
