"""Simulation of a queue of jobs with the product's own router, fair share and estimate."""

from __future__ import annotations

import heapq
import random
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from jobs.dispatch.fair_share import NORMAL_WEIGHT, Flow, Order, TenantView, advance_clocks
from jobs.dispatch.routing import RoutableShard, Snapshot, pick
from jobs.models.lanes import needs_of
from jobs.queue.eta import FlowView, Lengths, MeanForecast, RunningView, arrival_rates, lengths_by_lane

# As in jobs/queue/estimates.py, the latest jobs determine the usual length.
_RECENT = 500
Key = tuple[str, int, int]


@dataclass(frozen=True)
class Arrival:
    """Job that will be submitted; times are in seconds."""

    at: float
    tenant: int
    lane: str
    duration_s: float
    priority: int = 20


@dataclass
class Sample:
    """Job whose wait was estimated at its submission.

    Attributes:
        ahead: number of jobs that waited at that time.
    """

    estimate_s: float | None
    ahead: int
    slots: int
    mean_s: float | None
    waited_s: float | None = None


@dataclass
class SimulatedQueue:
    """Queue, its shards and its clock.

    Args:
        shards: healthy shards without running jobs.
        tenants: the weights of the tenants.
        fifo: True to dispatch by age alone, as a comparison.
        sample_every: interval of the jobs whose wait is estimated; 0 for none.
    """

    shards: Sequence[RoutableShard]
    tenants: Mapping[int, TenantView] = field(default_factory=dict)
    fifo: bool = False
    sample_every: int = 0
    used_s: defaultdict[int, float] = field(default_factory=lambda: defaultdict(float))
    waits_s: dict[int, list[float]] = field(default_factory=dict)
    samples: list[Sample] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.now = 0.0
        self._snapshot = Snapshot(self.shards)
        self._waiting: dict[Key, deque[tuple[int, Arrival]]] = {}
        self._running: list[tuple[float, int, str, Arrival, float]] = []
        self._slots: Counter[int] = Counter()
        self._ahead: dict[int, float] = {}
        self._counted_at = 0.0
        self._recent: deque[tuple[str, float]] = deque(maxlen=_RECENT)
        self._sampled: dict[int, Sample] = {}
        self._came: deque[tuple[Key, float]] = deque(maxlen=_RECENT)

    def play(self, arrivals: Iterable[Arrival], until: float) -> None:
        """Simulate until a time; of the unfinished jobs only the time that they ran counts."""
        coming = sorted(arrivals, key=lambda arrival: arrival.at)
        number = 0
        while number < len(coming) or self._running:
            ends = self._running[0][0] if self._running else float("inf")
            comes = coming[number].at if number < len(coming) else float("inf")
            if min(ends, comes) > until:
                break
            if ends <= comes:
                self._end()
            else:
                self._arrive(number, coming[number])
                number += 1
            self._round()
        for _, _, _, job, began in self._running:
            self.used_s[job.tenant] += until - began

    def _arrive(self, number: int, job: Arrival) -> None:
        self.now = job.at
        if self.sample_every and number % self.sample_every == 0:
            self._sampled[number] = self._estimate(job)
            self.samples.append(self._sampled[number])
        key = (job.lane, job.priority, job.tenant)
        self._came.append((key, job.at))
        self._waiting.setdefault(key, deque()).append((number, job))

    def _end(self) -> None:
        self.now, _, name, job, began = heapq.heappop(self._running)
        self._advance_clocks()
        self._snapshot.classes[name].add_free(1)
        self._snapshot.free_slots += 1
        self._slots[job.tenant] -= 1
        self.used_s[job.tenant] += self.now - began
        self._recent.append((job.lane, job.duration_s))

    def _advance_clocks(self) -> None:
        waiting = {tenant for (_, _, tenant), line in self._waiting.items() if line}
        elapsed_s, self._counted_at = self.now - self._counted_at, self.now
        used_s = {tenant: slots * elapsed_s for tenant, slots in self._slots.items() if slots}
        self._ahead = advance_clocks(self._ahead, used_s, self.tenants, waiting | used_s.keys())

    def _round(self) -> None:
        if self._snapshot.free_slots <= 0:
            return
        self._advance_clocks()
        flows = [self._flow(key, line) for key, line in self._waiting.items() if line]
        if self.fifo:
            self._round_by_age(flows)
            return
        order = Order(flows, self.tenants, self._slots, self._ahead)
        while self._snapshot.free_slots > 0 and (flow := order.next()):
            line = self._waiting[flow.lane, flow.priority, flow.tenant_id]
            if not line:
                order.drop(flow)
            elif not flow.is_read:
                head = self._flow((flow.lane, flow.priority, flow.tenant_id), line)
                order.set_head(flow, head.head, head.head_id, head.waited_s)
            elif self._start(flow):
                order.mark_dispatched(flow)
            else:
                order.drop(flow)

    def _round_by_age(self, flows: list[Flow[Arrival]]) -> None:
        for flow in sorted(flows, key=lambda flow: flow.head_id):
            while self._waiting[flow.lane, flow.priority, flow.tenant_id] and self._start(flow):
                self._slots[flow.tenant_id] += 1
                # The round starts again, because another flow's head may be older than the next job of this flow.
                return self._round()
        return None

    def _flow(self, key: Key, line: deque[tuple[int, Arrival]]) -> Flow[Arrival]:
        number, job = line[0]
        return Flow(*key, job, number, self.now - job.at)

    def _start(self, flow: Flow[Arrival]) -> bool:
        where = pick(flow.tenant_id, needs_of(flow.lane), self._snapshot)
        if where is None:
            return False
        self._snapshot.place(where)
        number, job = self._waiting[flow.lane, flow.priority, flow.tenant_id].popleft()
        heapq.heappush(self._running, (self.now + job.duration_s, number, where.shard_class, job, self.now))
        self.waits_s.setdefault(job.tenant, []).append(self.now - job.at)
        if number in self._sampled:
            self._sampled[number].waited_s = self.now - job.at
        return True

    def _estimate(self, job: Arrival) -> Sample:
        """Estimate a wait from the same inputs that ``jobs/queue/estimates.py`` reads from rows."""
        usual = lengths_by_lane(self._recent)
        mine = (job.lane, job.priority, job.tenant)
        counts = {key: len(line) for key, line in self._waiting.items() if line}
        position = counts.get(mine, 0)
        counts[mine] = position + 1
        rates, coming_for_s = arrival_rates(self._came, self.now)
        counts |= {key: 0 for key in rates if key not in counts}
        classes = self._classes(job.lane)
        flows = [
            self._view(key, jobs, usual(key[0]), rates.get(key, 0.0))
            for key, jobs in counts.items()
            if classes & self._classes(key[0])
        ]
        taken = [
            RunningView(run.tenant, usual(run.lane), self.now - began)
            for _, _, name, run, began in self._running
            if name in classes
        ]
        free = sum(max(0, group.free) for name, group in self._snapshot.classes.items() if name in classes)
        weights = {tenant: view.weight for tenant, view in self.tenants.items()}
        self._advance_clocks()
        forecast = MeanForecast(flows, taken, free, weights, self._ahead, coming_for_s)
        estimate_s = forecast.start_s(mine, position)
        lengths = usual(job.lane).seconds
        mean_s = sum(lengths) / len(lengths) if lengths else None
        return Sample(estimate_s, sum(counts.values()) - 1, len(taken) + free, mean_s)

    def _view(self, key: Key, jobs: int, lengths: Lengths, per_s: float) -> FlowView:
        line = self._waiting.get(key)
        waited_s = self.now - line[0][1].at if line else 0.0
        return FlowView(key, key[2], key[1], jobs, lengths, waited_s, per_s)

    def _classes(self, lane: str) -> frozenset[str]:
        needed = needs_of(lane)
        return frozenset(name for name, group in self._snapshot.classes.items() if needed <= group.capabilities)


def jain(shares: Sequence[float]) -> float:
    """Return Jain's fairness index: 1 when all shares are equal, 1/n when one has all (Jain, Chiu and Hawe, 1984)."""
    return sum(shares) ** 2 / (len(shares) * sum(share**2 for share in shares))


def weight_of(tenants: Mapping[int, TenantView], tenant: int) -> float:
    return tenants[tenant].weight / NORMAL_WEIGHT if tenant in tenants else 1.0


def durations(pick_from: random.Random, mean_s: float) -> float:
    """Return a random job length with a log-normal distribution: many jobs are short and a few are long."""
    return pick_from.lognormvariate(0.0, 0.8) * mean_s / 1.377
