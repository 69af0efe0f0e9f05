"""How long a waiting job may wait: the queue played forward over the slots there are. Pure.

What waits is played by the rule by which it is dispatched (``fair_share``), each job taking as long as one of the
latest like it, while more come as they came of late. Jobs of one tenant, lane and priority are one flow with a count,
so that the cost follows the number of flows and of the steps that are played. What lies beyond those is reckoned by the
rate at which its flow went on until then.
"""

from __future__ import annotations

import heapq
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Final, TypeVar

from jobs.dispatch.fair_share import NORMAL_WEIGHT, ages_in_s, claim, class_by_age

K = TypeVar("K")

# A job that has run longer than all of its like is taken to need this share of their time still.
_OVERDUE_SHARE = 0.25
# So many values stand for the lengths of jobs that are alike.
_MOST_LENGTHS = 64
# Multiples of it, less their whole part, lie evenly between 0 and 1 however many there are (Weyl's sequence).
_GOLDEN = 0.6180339887498949
MOST_STEPS: Final = 5000
# A rate needs so many starts to stand on.
_LEAST_STARTS = 4


@dataclass(frozen=True)
class Lengths:
    """How long jobs that are alike took, in seconds, the shortest first; empty when nobody can say."""

    seconds: tuple[float, ...] = ()

    @classmethod
    def of(cls, seconds: Iterable[float]) -> Lengths:
        """Keep so many of them at most, evenly chosen."""
        values = sorted(seconds)
        step = max(1.0, len(values) / _MOST_LENGTHS)
        return cls(tuple(values[int(index * step)] for index in range(int(len(values) / step))))

    def draw(self, part: float) -> float | None:
        """The length that this part of the jobs, from 0 to 1, does not reach."""
        return self.seconds[int(part * len(self.seconds))] if self.seconds else None

    def left(self, elapsed_s: float, part: float) -> float | None:
        """The same of what is left, for a job that has run for so long."""
        longer = self.seconds[bisect_right(self.seconds, elapsed_s) :]
        if longer:
            return longer[int(part * len(longer))] - elapsed_s
        return sum(self.seconds) / len(self.seconds) * _OVERDUE_SHARE if self.seconds else None


@dataclass(frozen=True)
class FlowView:
    """Waiting jobs that are alike.

    Attributes:
        key: whatever the caller knows it by.
        priority: as it was asked for.
        jobs: how many of them wait.
        lengths: what jobs like these took.
        waited_s: how long the oldest has waited; the others are taken to have come at even times since.
        per_s: how many more come in a second, as it has been of late.
    """

    key: object
    tenant_id: int
    priority: int
    jobs: int
    lengths: Lengths
    waited_s: float = 0.0
    per_s: float = 0.0


@dataclass(frozen=True)
class RunningView:
    """A slot that is taken.

    Attributes:
        lengths: what jobs like the one in it took.
        elapsed_s: how long that one has run.
    """

    tenant_id: int
    lengths: Lengths
    elapsed_s: float = 0.0


class Forecast:
    """When the jobs of each flow may start.

    Args:
        flows: what competes for the slots, or soon will.
        running: the slots that are taken.
        free: how many are not.
        weights: of tenants.
        ahead: their clocks; see ``fair_share``.
        coming_for_s: for how long more jobs are taken to come.
        most_steps: starts and arrivals that are played.
    """

    def __init__(
        self,
        flows: Sequence[FlowView],
        running: Iterable[RunningView],
        free: int,
        weights: Mapping[int, int],
        ahead: Mapping[int, float] | None = None,
        coming_for_s: float = 0.0,
        most_steps: int = MOST_STEPS,
    ) -> None:
        self._weights, self._ahead, self._coming_for_s = weights, dict(ahead or {}), coming_for_s
        self._starts: dict[object, list[float]] = {flow.key: [] for flow in flows}
        self._jobs: dict[object, int] = {flow.key: flow.jobs for flow in flows}
        self._flows_of: dict[int, list[FlowView]] = {}
        self._now, self._free = 0.0, free
        self._slots: Counter[int] = Counter()
        self._turns, self._draws = count(), count(1)
        self._line: list[tuple[int, float, int, FlowView]] = []
        self._entry: dict[object, int] = {}
        self._events: list[tuple[float, int, Callable[[], int]]] = []
        for flow in flows:
            self._flows_of.setdefault(flow.tenant_id, []).append(flow)
            self._stand_in_line(flow)
            self._expect_one_more(flow)
        for slot in running:
            self._take_slot(slot.tenant_id, slot.lengths.left(slot.elapsed_s, self._part()))
        self._play(most_steps)

    def start_s(self, key: object, position: int) -> float | None:
        """In how many seconds a job may start; None when nobody can say.

        Args:
            key: of its flow.
            position: how many of the flow go before it.
        """
        starts = self._starts.get(key, [])
        if position < len(starts):
            return starts[position]
        if len(starts) < _LEAST_STARTS or starts[-1] <= starts[0]:
            return None
        pace_s = (starts[-1] - starts[0]) / (len(starts) - 1)
        return starts[-1] + (position - len(starts) + 1) * pace_s

    def _play(self, steps: int) -> None:
        while steps > 0:
            while self._free > 0 and (flow := self._next()):
                self._start(flow)
                steps -= 1
            if not self._events:
                return
            self._now, _, happen = heapq.heappop(self._events)
            steps -= happen()

    def _at(self, time_s: float, happen: Callable[[], int]) -> None:
        """Have something happen, which says how many steps it is worth."""
        heapq.heappush(self._events, (time_s, next(self._turns), happen))

    def _start(self, flow: FlowView) -> None:
        self._starts[flow.key].append(self._now)
        self._free -= 1
        self._take_slot(flow.tenant_id, flow.lengths.draw(self._part()))
        self._stand_in_line(flow)

    def _part(self) -> float:
        """The next of numbers that lie evenly between 0 and 1."""
        return next(self._draws) * _GOLDEN % 1

    def _take_slot(self, tenant_id: int, for_s: float | None) -> None:
        self._slots[tenant_id] += 1
        # A job of unknown length takes its slot out of the forecast.
        if for_s is not None:
            self._at(self._now + for_s, partial(self._give_back, tenant_id, for_s))

    def _give_back(self, tenant_id: int, took_s: float) -> int:
        self._free += 1
        self._slots[tenant_id] -= 1
        self._ahead[tenant_id] = self._ahead.get(tenant_id, 0.0) + took_s * NORMAL_WEIGHT / self._weight(tenant_id)
        for flow in self._flows_of.get(tenant_id, ()):
            self._stand_in_line(flow)
        return 0

    def _expect_one_more(self, flow: FlowView) -> None:
        if flow.per_s > 0 and self._now + 1 / flow.per_s <= self._coming_for_s:
            self._at(self._now + 1 / flow.per_s, partial(self._come, flow))

    def _come(self, flow: FlowView) -> int:
        self._jobs[flow.key] += 1
        if len(self._starts[flow.key]) == self._jobs[flow.key] - 1:
            self._stand_in_line(flow)
        self._expect_one_more(flow)
        return 1

    def _stand_in_line(self, flow: FlowView) -> int:
        """Enter a flow where it belongs by now; the entry that it had before counts no longer."""
        started = len(self._starts[flow.key])
        if started < self._jobs[flow.key]:
            turn = next(self._turns)
            self._entry[flow.key] = turn
            waited_s = self._now + flow.waited_s * max(0.0, 1 - started / max(1, flow.jobs))
            place = class_by_age(flow.priority, waited_s)
            heapq.heappush(self._line, (place, self._claim(flow.tenant_id), turn, flow))
            later_s = ages_in_s(flow.priority, waited_s)
            if later_s is not None and started == 0:
                self._at(self._now + later_s, partial(self._stand_in_line, flow))
        return 0

    def _next(self) -> FlowView | None:
        """The flow whose turn it is. An entry whose tenant has had more by now goes back to where it belongs."""
        while self._line:
            _, claimed, turn, flow = heapq.heappop(self._line)
            if turn != self._entry[flow.key]:
                continue
            if claimed >= self._claim(flow.tenant_id):
                return flow
            self._stand_in_line(flow)
        return None

    def _claim(self, tenant_id: int) -> float:
        return claim(self._slots[tenant_id], self._weight(tenant_id), self._ahead.get(tenant_id, 0.0))

    def _weight(self, tenant_id: int) -> int:
        return self._weights.get(tenant_id, NORMAL_WEIGHT)


def typical(durations: Iterable[tuple[str, float]]) -> Callable[[str], Lengths]:
    """Tell how long jobs take by their lane: as those in the same did, else as all did.

    Args:
        durations: lanes and seconds of jobs that have ended by themselves.
    """
    by_lane: dict[str, list[float]] = {}
    everything: list[float] = []
    for lane, seconds in durations:
        by_lane.setdefault(lane, []).append(seconds)
        everything.append(seconds)
    known = {lane: Lengths.of(values) for lane, values in by_lane.items()}
    anything = Lengths.of(everything)
    return lambda lane: known.get(lane, anything)


# Fewer arrivals, or a shorter time, tell nothing about what is to come.
_LEAST_ARRIVALS = 10
_LEAST_SPAN_S = 600.0


def arrival_rates(arrivals: Sequence[tuple[K, float]], now_s: float) -> tuple[dict[K, float], float]:
    """Tell how many jobs of each flow come in a second, and for how long that may be relied on.

    What came in the latest hours is taken to come in the next ones, as many hours as were looked at, and no more.

    Args:
        arrivals: the flow and the time in seconds of each of the latest.
        now_s: on the same clock.
    """
    if len(arrivals) < _LEAST_ARRIVALS:
        return {}, 0.0
    span_s = max(_LEAST_SPAN_S, now_s - min(at for _, at in arrivals))
    return {key: number / span_s for key, number in Counter(key for key, _ in arrivals).items()}, span_s
