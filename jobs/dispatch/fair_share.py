"""Fair order of waiting jobs: priority classes with ageing, and a fair share for each tenant within a class. Pure.

A share is measured in slot-seconds divided by the tenant's weight. Each tenant has a clock that advances with the slots
that it uses. An idle tenant starts level with the tenant that is furthest behind and gets no credit for the idle time:
start-time fair queueing (Goyal, Vin and Cheng, 1996).

Jobs are long and cannot be preempted, so each slot also counts in advance for the expected cost of its job. A tenant
with few slots goes before a tenant with many. The clocks decide between tenants with equally many slots, for example
when there are fewer slots than tenants. A tenant with ten thousand waiting jobs therefore delays the first job of
another tenant by one job at most, and over hours all tenants get the same share.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

# Next class of an aged job, and the wait in seconds. Ageing prevents starvation; long waits keep the classes distinct.
AGES_AFTER_S: Final[Mapping[int, tuple[int, float]]] = {30: (20, 1800.0), 20: (10, 4 * 3600.0)}
# Default weight of a tenant.
NORMAL_WEIGHT: Final = 100
# Slot-seconds that an occupied slot counts in advance: about the duration of a job.
EXPECTED_S: Final = 300.0
# Minimum cost of a dispatched job. Jobs that end before the clocks are read would cost nothing otherwise.
_MIN_COST_S: Final = 1.0

T = TypeVar("T")


def effective_priority(priority: int, waited_s: float) -> int:
    """Return the priority class of a job after ageing.

    Args:
        priority: as submitted; the lower number goes first.
        waited_s: seconds since the job became ready for dispatch.
    """
    while priority in AGES_AFTER_S:
        raised, after_s = AGES_AFTER_S[priority]
        if waited_s < after_s:
            break
        priority, waited_s = raised, waited_s - after_s
    return priority


def next_priority_change_s(priority: int, waited_s: float) -> float | None:
    """Return the seconds until the class of a waiting job changes, or None; arguments as above."""
    while priority in AGES_AFTER_S:
        priority, after_s = AGES_AFTER_S[priority]
        if waited_s < after_s:
            return after_s - waited_s
        waited_s -= after_s
    return None


@dataclass(frozen=True)
class TenantView:
    """Weight and limit of a tenant.

    Attributes:
        weight: its share in relation to other tenants.
        max_running: maximum number of slots at once; None means no limit.
    """

    weight: int = NORMAL_WEIGHT
    max_running: int | None = None


@dataclass
class Flow(Generic[T]):
    """Waiting jobs of one tenant, lane and priority, oldest first.

    Attributes:
        head: the first job, or the job before it while ``is_read`` is false.
        head_id: position of the first job in the order of submission.
        waited_s: seconds since the first job became ready for dispatch.
        is_read: the head has been read from the database.
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
    """Priority queue of flows that yields the flow whose head goes next.

    Args:
        flows: all flows whose head is ready for dispatch.
        tenants: by id; a missing tenant has the default weight and no limit.
        in_flight: number of slots of each tenant.
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
            self._push(flow)

    def next(self) -> Flow[T] | None:
        """Return the flow whose head goes next, or None.

        Call one of ``mark_dispatched``, ``skip_head``, ``set_head`` and ``drop`` before the next call.
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
        """Tell whether the tenant uses all slots of its limit."""
        limit = self._tenant(tenant_id).max_running
        return limit is not None and self.in_flight.get(tenant_id, 0) >= limit

    def mark_dispatched(self, flow: Flow[T]) -> None:
        """Record that the head of the flow returned by ``next`` got a slot."""
        tenant_id = flow.tenant_id
        self.in_flight[tenant_id] = self.in_flight.get(tenant_id, 0) + 1
        self.ahead[tenant_id] = (
            self.ahead.get(tenant_id, 0.0) + _MIN_COST_S * NORMAL_WEIGHT / self._tenant(tenant_id).weight
        )
        self.skip_head(flow)

    def skip_head(self, flow: Flow[T]) -> None:
        """Advance a flow to the job behind its head. The caller reads that job only when the flow comes up again."""
        self.drop(flow)
        # The following job is younger; its exact position is known once it has been read.
        flow.head_id, flow.is_read = flow.head_id + 1, False
        self._push(flow)

    def set_head(self, flow: Flow[T], head: T, head_id: int, waited_s: float) -> None:
        """Set the head that was read for a flow, and sort the flow in again."""
        self.drop(flow)
        flow.head, flow.head_id, flow.waited_s, flow.is_read = head, head_id, waited_s, True
        self._push(flow)

    def drop(self, flow: Flow[T]) -> None:
        """Remove the flow returned by ``next``, because none of its jobs can get a slot in this round."""
        heapq.heappop(self._classes[self._class][flow.tenant_id])

    def _push(self, flow: Flow[T]) -> None:
        # A class that is finished is not started again.
        priority = max(effective_priority(flow.priority, flow.waited_s), self._class)
        flows = self._classes.setdefault(priority, {}).setdefault(flow.tenant_id, [])
        heapq.heappush(flows, (flow.head_id, id(flow), flow))
        if self._heap and self._heap[0][2] == flow.tenant_id:
            heapq.heapreplace(self._heap, self._key(flow.tenant_id))

    def _key(self, tenant_id: int) -> tuple[float, int, int]:
        slots = self.in_flight.get(tenant_id, 0)
        return (
            projected_usage(slots, self._tenant(tenant_id).weight, self.ahead.get(tenant_id, 0.0)),
            slots,
            tenant_id,
        )

    def _tenant(self, tenant_id: int) -> TenantView:
        return self.tenants.get(tenant_id) or _DEFAULT_TENANT


_DEFAULT_TENANT = TenantView()


def projected_usage(slots: int, weight: int, ahead_s: float) -> float:
    """Return the past and expected use of a tenant in slot-seconds over its weight; the lowest value goes first."""
    return ahead_s + slots * EXPECTED_S * NORMAL_WEIGHT / weight


def advance_clocks(
    ahead: Mapping[int, float],
    used_s: Mapping[int, float],
    tenants: Mapping[int, TenantView],
    active: Iterable[int],
) -> dict[int, float]:
    """Advance the tenants' clocks by the slots that they used.

    Args:
        ahead: lead of each tenant over the one furthest behind, in slot-seconds over its weight; missing means none.
        used_s: slot-seconds of each tenant since the clocks were last read.
        tenants: their weights.
        active: tenants that have slots or wait for some.

    Returns:
        The clocks relative to the active tenant that is furthest behind. Idle tenants start there.
    """
    moved = dict(ahead)
    for tenant_id, seconds in used_s.items():
        weight = (tenants.get(tenant_id) or _DEFAULT_TENANT).weight
        moved[tenant_id] = moved.get(tenant_id, 0.0) + max(0.0, seconds) * NORMAL_WEIGHT / weight
    level = min((moved.get(tenant_id, 0.0) for tenant_id in active), default=0.0)
    return {tenant_id: clock - level for tenant_id, clock in moved.items() if clock > level}
