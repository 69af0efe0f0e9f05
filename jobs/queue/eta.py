"""Estimate of waiting times by simulating the queue over the available slots. Pure.

The simulation dispatches waiting jobs by the same rule as a round (``fair_share``). Durations are taken from recent
jobs of the same lane, and more jobs arrive at the recent rate. Jobs of one tenant, lane and priority form one flow with
a count, so the cost depends on the number of flows and of simulated steps. Waits beyond the simulated steps are
extrapolated from the start rate of the flow.

One simulation gives each job one duration. Where similar jobs take 4 s or 105 s, the order of the running jobs would
then decide between these two. So the next starts are simulated several times with other durations, and the mean counts.
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

from jobs.dispatch.fair_share import NORMAL_WEIGHT, effective_priority, next_priority_change_s, projected_usage

K = TypeVar("K")

# Remaining time of a job that has run longer than all similar jobs, as a share of their mean duration.
_OVERDUE_SHARE = 0.25
# Maximum number of durations that represent similar jobs.
_MAX_LENGTHS = 64
# The fractional parts of its multiples are evenly spread between 0 and 1 (Weyl's sequence).
_GOLDEN = 0.6180339887498949
MAX_STEPS: Final = 5000
# Minimum number of starts from which a start rate is computed.
_MIN_STARTS = 4
# Number of simulations, and the steps of each but the first.
_SIMULATIONS: Final = 8
_NEAR_STEPS: Final = 300


@dataclass(frozen=True)
class Lengths:
    """Durations of similar jobs in seconds, in ascending order; empty when unknown."""

    seconds: tuple[float, ...] = ()

    @classmethod
    def of(cls, seconds: Iterable[float]) -> Lengths:
        """Keep an evenly spaced sample of the durations."""
        values = sorted(seconds)
        step = max(1.0, len(values) / _MAX_LENGTHS)
        return cls(tuple(values[int(index * step)] for index in range(int(len(values) / step))))

    def draw(self, part: float) -> float | None:
        """Return the quantile of the durations at ``part``, from 0 to 1; None when unknown."""
        return self.seconds[int(part * len(self.seconds))] if self.seconds else None

    def left(self, elapsed_s: float, part: float) -> float | None:
        """Return the quantile of the remaining time of a job that has run for ``elapsed_s``; None when unknown."""
        longer = self.seconds[bisect_right(self.seconds, elapsed_s) :]
        if longer:
            return longer[int(part * len(longer))] - elapsed_s
        return sum(self.seconds) / len(self.seconds) * _OVERDUE_SHARE if self.seconds else None


@dataclass(frozen=True)
class FlowView:
    """Waiting jobs of one tenant, lane and priority.

    Attributes:
        key: identifies the flow for the caller.
        priority: as submitted.
        jobs: number of waiting jobs.
        lengths: durations of similar jobs.
        waited_s: wait of the oldest job; the others are assumed to have arrived at even intervals since.
        per_s: recent arrival rate in jobs per second.
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
    """Occupied slot.

    Attributes:
        lengths: durations of jobs similar to the running one.
        elapsed_s: time that the running job has taken so far.
    """

    tenant_id: int
    lengths: Lengths
    elapsed_s: float = 0.0


class Forecast:
    """Start times of the jobs of each flow.

    Args:
        flows: compete for the slots now or soon.
        running: occupied slots.
        free: number of free slots.
        weights: of tenants.
        ahead: their clocks; see ``fair_share``.
        arrivals_for_s: time during which more jobs arrive, in seconds.
        max_steps: maximum number of simulated starts and arrivals.
        shift: added to each fraction that chooses a duration, from 0 to 1.
    """

    def __init__(
        self,
        flows: Sequence[FlowView],
        running: Iterable[RunningView],
        free: int,
        weights: Mapping[int, int],
        ahead: Mapping[int, float] | None = None,
        arrivals_for_s: float = 0.0,
        max_steps: int = MAX_STEPS,
        shift: float = 0.0,
    ) -> None:
        self._weights, self._ahead, self._arrivals_for_s = weights, dict(ahead or {}), arrivals_for_s
        self._starts: dict[object, list[float]] = {flow.key: [] for flow in flows}
        self._jobs: dict[object, int] = {flow.key: flow.jobs for flow in flows}
        self._flows_of: dict[int, list[FlowView]] = {}
        self._now, self._free, self._shift = 0.0, free, shift
        self._slots: Counter[int] = Counter()
        self._sequence, self._draws = count(), count(1)
        self._queue: list[tuple[int, float, int, FlowView]] = []
        self._entry: dict[object, int] = {}
        self._events: list[tuple[float, int, Callable[[], int]]] = []
        for flow in flows:
            self._flows_of.setdefault(flow.tenant_id, []).append(flow)
            self._enqueue(flow)
            self._schedule_arrival(flow)
        for slot in running:
            self._take_slot(slot.tenant_id, slot.lengths.left(slot.elapsed_s, self._next_fraction()))
        self._simulate(max_steps)

    def start_s(self, key: object, position: int) -> float | None:
        """Return the seconds until a job may start; None when unknown.

        Args:
            key: of its flow.
            position: number of jobs of the flow that go before it.
        """
        starts = self._starts.get(key, [])
        if self.reaches(key, position):
            return starts[position]
        if len(starts) < _MIN_STARTS or starts[-1] <= starts[0]:
            return None
        interval_s = (starts[-1] - starts[0]) / (len(starts) - 1)
        return starts[-1] + (position - len(starts) + 1) * interval_s

    def reaches(self, key: object, position: int) -> bool:
        """Tell whether the simulation started the job at a position of a flow."""
        return position < len(self._starts.get(key, []))

    def _simulate(self, steps: int) -> None:
        while steps > 0:
            while self._free > 0 and (flow := self._next()):
                self._start(flow)
                steps -= 1
            if not self._events:
                return
            self._now, _, event = heapq.heappop(self._events)
            steps -= event()

    def _schedule(self, time_s: float, event: Callable[[], int]) -> None:
        """Schedule an event, which returns the number of steps that it counts for."""
        heapq.heappush(self._events, (time_s, next(self._sequence), event))

    def _start(self, flow: FlowView) -> None:
        self._starts[flow.key].append(self._now)
        self._free -= 1
        self._take_slot(flow.tenant_id, flow.lengths.draw(self._next_fraction()))
        self._enqueue(flow)

    def _next_fraction(self) -> float:
        """Return the next of a sequence of numbers that are evenly spread between 0 and 1."""
        return (next(self._draws) * _GOLDEN + self._shift) % 1

    def _take_slot(self, tenant_id: int, for_s: float | None) -> None:
        self._slots[tenant_id] += 1
        # A job of unknown duration never frees its slot in the simulation.
        if for_s is not None:
            self._schedule(self._now + for_s, partial(self._free_slot, tenant_id, for_s))

    def _free_slot(self, tenant_id: int, took_s: float) -> int:
        self._free += 1
        self._slots[tenant_id] -= 1
        self._ahead[tenant_id] = self._ahead.get(tenant_id, 0.0) + took_s * NORMAL_WEIGHT / self._weight(tenant_id)
        for flow in self._flows_of.get(tenant_id, ()):
            self._enqueue(flow)
        return 0

    def _schedule_arrival(self, flow: FlowView) -> None:
        if flow.per_s > 0 and self._now + 1 / flow.per_s <= self._arrivals_for_s:
            self._schedule(self._now + 1 / flow.per_s, partial(self._arrive, flow))

    def _arrive(self, flow: FlowView) -> int:
        self._jobs[flow.key] += 1
        if len(self._starts[flow.key]) == self._jobs[flow.key] - 1:
            self._enqueue(flow)
        self._schedule_arrival(flow)
        return 1

    def _enqueue(self, flow: FlowView) -> int:
        """Enqueue a flow at its current rank; its previous entry becomes invalid."""
        started = len(self._starts[flow.key])
        if started < self._jobs[flow.key]:
            entry = next(self._sequence)
            self._entry[flow.key] = entry
            waited_s = self._now + flow.waited_s * max(0.0, 1 - started / max(1, flow.jobs))
            priority = effective_priority(flow.priority, waited_s)
            heapq.heappush(self._queue, (priority, self._projected_usage(flow.tenant_id), entry, flow))
            later_s = next_priority_change_s(flow.priority, waited_s)
            if later_s is not None and started == 0:
                self._schedule(self._now + later_s, partial(self._enqueue, flow))
        return 0

    def _next(self) -> FlowView | None:
        """Return the flow that goes next. Enqueue an entry again whose tenant has used more in the meantime."""
        while self._queue:
            _, usage, entry, flow = heapq.heappop(self._queue)
            if entry != self._entry[flow.key]:
                continue
            if usage >= self._projected_usage(flow.tenant_id):
                return flow
            self._enqueue(flow)
        return None

    def _projected_usage(self, tenant_id: int) -> float:
        return projected_usage(self._slots[tenant_id], self._weight(tenant_id), self._ahead.get(tenant_id, 0.0))

    def _weight(self, tenant_id: int) -> int:
        return self._weights.get(tenant_id, NORMAL_WEIGHT)


class MeanForecast:
    """Mean start times of several forecasts, which differ in the durations of the jobs.

    The arguments are those of ``Forecast``. Far positions come from the first forecast alone, which has most steps.
    """

    def __init__(
        self,
        flows: Sequence[FlowView],
        running: Iterable[RunningView],
        free: int,
        weights: Mapping[int, int],
        ahead: Mapping[int, float] | None = None,
        arrivals_for_s: float = 0.0,
        max_steps: int = MAX_STEPS,
    ) -> None:
        near = min(_NEAR_STEPS, max_steps // (2 * _SIMULATIONS))
        steps = [max_steps - near * (_SIMULATIONS - 1), *[near] * (_SIMULATIONS - 1)]
        slots = list(running)
        self._first, *self._others = (
            Forecast(flows, slots, free, weights, ahead, arrivals_for_s, count, shift=number / _SIMULATIONS)
            for number, count in enumerate(steps)
        )

    def start_s(self, key: object, position: int) -> float | None:
        """Return the seconds until a job may start; None when unknown. See ``Forecast.start_s``."""
        found = [self._first.start_s(key, position)]
        found += [other.start_s(key, position) for other in self._others if other.reaches(key, position)]
        known = [seconds for seconds in found if seconds is not None]
        return sum(known) / len(known) if found[0] is not None else None


def lengths_by_lane(durations: Iterable[tuple[str, float]]) -> Callable[[str], Lengths]:
    """Return a function from a lane to durations of similar jobs: of that lane, or of all lanes.

    Args:
        durations: lanes and seconds of jobs that ended by themselves.
    """
    by_lane: dict[str, list[float]] = {}
    everything: list[float] = []
    for lane, seconds in durations:
        by_lane.setdefault(lane, []).append(seconds)
        everything.append(seconds)
    known = {lane: Lengths.of(values) for lane, values in by_lane.items()}
    anything = Lengths.of(everything)
    return lambda lane: known.get(lane, anything)


# Fewer arrivals or a shorter time do not give a reliable rate.
_MIN_ARRIVALS = 10
_MIN_SPAN_S = 600.0


def arrival_rates(arrivals: Sequence[tuple[K, float]], now_s: float) -> tuple[dict[K, float], float]:
    """Return the arrival rate of each flow per second, and the seconds for which the rates are valid.

    The rates are assumed to last as long as the observed time span.

    Args:
        arrivals: flow and time in seconds of recent jobs.
        now_s: on the same clock.
    """
    if len(arrivals) < _MIN_ARRIVALS:
        return {}, 0.0
    span_s = max(_MIN_SPAN_S, now_s - min(at for _, at in arrivals))
    return {key: number / span_s for key, number in Counter(key for key, _ in arrivals).items()}, span_s
