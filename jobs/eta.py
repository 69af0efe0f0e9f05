"""How long a waiting job may wait: the queue played forward over the slots there are. Pure.

What waits is played by the rule by which it is dispatched (``fair_share``), each job taking what jobs like it usually
take. Jobs of one tenant, lane and class are one flow with a count, so that the cost follows the number of flows and of
the steps that are played. What lies beyond those is reckoned by the rate at which its flow went on until then.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Final

# A job that has run longer than its like is taken to need this share of their time still.
_OVERDUE_SHARE = 0.25
MOST_STEPS: Final = 5000
# A rate needs so many starts to stand on.
_LEAST_STARTS = 4


@dataclass(frozen=True)
class FlowView:
    """Waiting jobs that are alike.

    Attributes:
        key: whatever the caller knows it by.
        place: the class by age; lower goes first.
        jobs: how many of them wait.
        duration_s: what jobs like these take; None when nobody can say.
    """

    key: object
    tenant_id: int
    place: int
    jobs: int
    duration_s: float | None


@dataclass(frozen=True)
class RunningView:
    """A slot that is taken.

    Attributes:
        remaining_s: how long it may be still; None when nobody can say.
    """

    tenant_id: int
    remaining_s: float | None


def remaining(duration_s: float | None, elapsed_s: float) -> float | None:
    """How long a running job may go on, given what jobs like it took."""
    return None if duration_s is None else max(duration_s - elapsed_s, duration_s * _OVERDUE_SHARE)


class Forecast:
    """When the jobs of each flow may start.

    Args:
        flows: what competes for the slots.
        running: the slots that are taken.
        free: how many are not.
        weights: of tenants.
    """

    def __init__(
        self,
        flows: Sequence[FlowView],
        running: Iterable[RunningView],
        free: int,
        weights: Mapping[int, int],
        most_steps: int = MOST_STEPS,
    ) -> None:
        self._starts: dict[object, list[float]] = {flow.key: [] for flow in flows}
        self._weights = weights
        self._flows_of: dict[int, list[FlowView]] = {}
        for flow in flows:
            self._flows_of.setdefault(flow.tenant_id, []).append(flow)
        running = list(running)
        self._slots = Counter(slot.tenant_id for slot in running)
        self._turns = count()
        self._line: list[tuple[int, float, int, int, FlowView]] = []
        self._ends: list[tuple[float, int, int | None]] = [(0.0, number, None) for number in range(free)]
        self._ends += [
            (slot.remaining_s, free + number, slot.tenant_id)
            for number, slot in enumerate(running)
            if slot.remaining_s is not None
        ]
        heapq.heapify(self._ends)
        for flow in flows:
            self._stand_in_line(flow)
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
        number = len(self._ends)
        while self._ends and steps > 0:
            now, _, tenant_id = heapq.heappop(self._ends)
            if tenant_id is not None:
                self._slots[tenant_id] -= 1
                for flow in self._flows_of.get(tenant_id, ()):
                    self._stand_in_line(flow)
            flow_ = self._next()
            if flow_ is None:
                # Those that end later may belong to flows that are over; nothing waits any more.
                return
            steps -= 1
            number += 1
            self._starts[flow_.key].append(now)
            self._slots[flow_.tenant_id] += 1
            self._stand_in_line(flow_)
            # A job of unknown length takes its slot out of the forecast.
            if flow_.duration_s is not None:
                heapq.heappush(self._ends, (now + flow_.duration_s, number + 1_000_000, flow_.tenant_id))

    def _stand_in_line(self, flow: FlowView) -> None:
        if len(self._starts[flow.key]) < flow.jobs:
            turn = next(self._turns)
            heapq.heappush(self._line, (flow.place, self._share(flow.tenant_id), turn, turn, flow))

    def _next(self) -> FlowView | None:
        """The flow whose turn it is. An entry whose tenant has more slots by now goes back to where it belongs."""
        while self._line:
            place, share, turn, _, flow = heapq.heappop(self._line)
            if len(self._starts[flow.key]) >= flow.jobs:
                continue
            present = self._share(flow.tenant_id)
            if share == present:
                return flow
            if present > share:
                heapq.heappush(self._line, (place, present, turn, next(self._turns), flow))
        return None

    def _share(self, tenant_id: int) -> float:
        return self._slots[tenant_id] / self._weights.get(tenant_id, 100)


def typical(durations: Iterable[tuple[str, float]]) -> Callable[[str], float | None]:
    """Tell what jobs take by their lane: the mean of those in the same, else of all.

    The mean, not the median: a line moves on at the pace of the mean.

    Args:
        durations: lanes and seconds of jobs that have ended by themselves.
    """
    by_lane: dict[str, list[float]] = {}
    everything: list[float] = []
    for lane, seconds in durations:
        by_lane.setdefault(lane, []).append(seconds)
        everything.append(seconds)
    means = {lane: sum(values) / len(values) for lane, values in by_lane.items()}
    overall = sum(everything) / len(everything) if everything else None
    return lambda lane: means.get(lane, overall)
