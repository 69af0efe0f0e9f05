"""Whose job is next: priority classes with ageing, and within a class a fair share for each tenant. Pure.

A share is counted in slot-seconds over the tenant's weight. Each tenant has a clock that runs with the slots that it
has, and starts level with whoever is furthest behind: start-time fair queueing (Goyal, Vin and Cheng, 1996), where a
tenant that was idle gets no credit for it. Because jobs are long and cannot be taken back, a slot counts ahead for what
it will cost as well: whoever has few slots goes before whoever has many, and where that is equal, as with fewer slots
than tenants, the clocks decide. So a tenant with ten thousand waiting jobs delays another's first job by one slot's
turn at most, and over hours everybody gets the same.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

# After so many seconds of waiting a job counts as one of the class before its own: batch as normal after half an
# hour, and four hours later as high. So nothing starves, and the classes still mean something when much waits.
AGES_AFTER_S: Final[Mapping[int, tuple[int, float]]] = {30: (20, 1800.0), 20: (10, 4 * 3600.0)}
# The weight of a tenant that is as important as most.
NORMAL_WEIGHT: Final = 100
# Slot-seconds that a slot counts ahead, for as long as its job runs: about what a job takes.
EXPECTED_S: Final = 300.0
# And that a turn costs at least; jobs that end before the clock is read would be free otherwise.
_TURN_S: Final = 1.0

T = TypeVar("T")


def class_by_age(priority: int, waited_s: float) -> int:
    """The priority class that a job has by now.

    Args:
        priority: as it was asked for; the lower number goes first.
        waited_s: since it could have been dispatched.
    """
    while priority in AGES_AFTER_S:
        raised, after_s = AGES_AFTER_S[priority]
        if waited_s < after_s:
            break
        priority, waited_s = raised, waited_s - after_s
    return priority


def ages_in_s(priority: int, waited_s: float) -> float | None:
    """In how many seconds the class of a waiting job changes; None when it does not any more. Arguments as above."""
    while priority in AGES_AFTER_S:
        priority, after_s = AGES_AFTER_S[priority]
        if waited_s < after_s:
            return after_s - waited_s
        waited_s -= after_s
    return None


@dataclass(frozen=True)
class TenantView:
    """What a tenant may have.

    Attributes:
        weight: its share in relation to others'.
        max_running: slots at once; None without bound.
    """

    weight: int = NORMAL_WEIGHT
    max_running: int | None = None


@dataclass
class Flow(Generic[T]):
    """Waiting jobs of one tenant, lane and priority, oldest first.

    Attributes:
        head: the first of them, or the one before it, when nobody has read that one yet.
        head_id: where the first stands in the order of submits.
        waited_s: since that one could have been dispatched.
    """

    lane: str
    priority: int
    tenant_id: int
    head: T
    head_id: int
    waited_s: float
    is_read: bool = True


@dataclass
class Order(Generic[T]):
    """Gives the flow whose head is next, for as long as somebody says what became of it.

    Args:
        flows: all whose head could be dispatched.
        tenants: of all flows; one that is missing is as any other.
        in_flight: slots that each tenant has.
        ahead: the tenants' clocks; see ``advance_clocks``.
    """

    flows: Iterable[Flow[T]]
    tenants: Mapping[int, TenantView]
    in_flight: dict[int, int]
    ahead: dict[int, float]
    _classes: dict[int, dict[int, list[tuple[int, int, Flow[T]]]]] = field(init=False, default_factory=dict)
    _heap: list[tuple[float, int, int]] | None = field(init=False, default=None)
    _class: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        for flow in self.flows:
            self._enter(flow)

    def next(self) -> Flow[T] | None:
        """The flow whose turn it is, or None when there is none.

        Say what became of it before asking again: ``served``, ``passed_over``, ``read`` or ``drop``.
        """
        while self._classes:
            if self._heap is None:
                self._class = min(self._classes)
                self._heap = [self._key(tenant_id) for tenant_id in self._classes[self._class]]
                heapq.heapify(self._heap)
            flows = self._classes[self._class]
            while self._heap:
                tenant_id = self._heap[0][2]
                if flows.get(tenant_id) and not self.is_full(tenant_id):
                    return flows[tenant_id][0][2]
                heapq.heappop(self._heap)
            del self._classes[self._class]
            self._heap = None
        return None

    def is_full(self, tenant_id: int) -> bool:
        """Whether the tenant has all the slots that it may have."""
        limit = self._view(tenant_id).max_running
        return limit is not None and self.in_flight.get(tenant_id, 0) >= limit

    def served(self, flow: Flow[T]) -> None:
        """The head of the flow that ``next`` gave got a slot."""
        tenant_id = flow.tenant_id
        self.in_flight[tenant_id] = self.in_flight.get(tenant_id, 0) + 1
        self.ahead[tenant_id] = self.ahead.get(tenant_id, 0.0) + _TURN_S * NORMAL_WEIGHT / self._view(tenant_id).weight
        self.passed_over(flow)

    def passed_over(self, flow: Flow[T]) -> None:
        """The head is dealt with, and whatever is behind it is next. That is read when its turn comes, not before."""
        self.drop(flow)
        # Behind a head stands a younger one; how much younger is known when it is read.
        flow.head_id, flow.is_read = flow.head_id + 1, False
        self._enter(flow)

    def read(self, flow: Flow[T], head: T, head_id: int, waited_s: float) -> None:
        """What is behind the last head has been read, and stands where it belongs."""
        self.drop(flow)
        flow.head, flow.head_id, flow.waited_s, flow.is_read = head, head_id, waited_s, True
        self._enter(flow)

    def drop(self, flow: Flow[T]) -> None:
        """Nothing of the flow that ``next`` gave can have a slot now."""
        heapq.heappop(self._classes[self._class][flow.tenant_id])

    def _enter(self, flow: Flow[T]) -> None:
        # A class that is done with does not begin anew.
        place = max(class_by_age(flow.priority, flow.waited_s), self._class)
        flows = self._classes.setdefault(place, {}).setdefault(flow.tenant_id, [])
        heapq.heappush(flows, (flow.head_id, id(flow), flow))
        if self._heap and self._heap[0][2] == flow.tenant_id:
            heapq.heapreplace(self._heap, self._key(flow.tenant_id))

    def _key(self, tenant_id: int) -> tuple[float, int, int]:
        slots = self.in_flight.get(tenant_id, 0)
        return (claim(slots, self._view(tenant_id).weight, self.ahead.get(tenant_id, 0.0)), slots, tenant_id)

    def _view(self, tenant_id: int) -> TenantView:
        return self.tenants.get(tenant_id) or _ANY


_ANY = TenantView()


def claim(slots: int, weight: int, ahead_s: float) -> float:
    """What a tenant has had and is about to have, in slot-seconds over its weight; the least goes first."""
    return ahead_s + slots * EXPECTED_S * NORMAL_WEIGHT / weight


def advance_clocks(
    ahead: Mapping[int, float],
    used_s: Mapping[int, float],
    tenants: Mapping[int, TenantView],
    wanting: Iterable[int],
) -> dict[int, float]:
    """Let the tenants' clocks run.

    Args:
        ahead: slot-seconds over its weight that a tenant is ahead of the one furthest behind; those without are level.
        used_s: slot-seconds since the clocks were read, of tenants that have or had slots.
        tenants: their weights.
        wanting: tenants that have slots or wait for some, wherever.

    Returns:
        The same, level with whoever is furthest behind of those that want slots. Who was idle starts there.
    """
    moved = dict(ahead)
    for tenant_id, seconds in used_s.items():
        weight = (tenants.get(tenant_id) or _ANY).weight
        moved[tenant_id] = moved.get(tenant_id, 0.0) + max(0.0, seconds) * NORMAL_WEIGHT / weight
    level = min((moved.get(tenant_id, 0.0) for tenant_id in wanting), default=0.0)
    return {tenant_id: clock - level for tenant_id, clock in moved.items() if clock > level}
