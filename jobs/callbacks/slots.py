"""Slots of deliveries: which due callbacks are sent next, shared fairly among tenants and hosts; pure."""

from __future__ import annotations

from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

# Deliveries at the same time: in total, of one tenant, and of one tenant to one host.
MAX_DELIVERIES: Final = 128
MAX_OF_TENANT: Final = 16
MAX_OF_HOST: Final = 4
# A host whose last delivery failed gets one at a time, and all such hosts of a tenant get half of its slots.
MAX_OF_FAILING_HOST: Final = 1
MAX_FAILING_OF_TENANT: Final = 8
_MAX_KNOWN_FAILING: Final = 10_000


@dataclass(frozen=True)
class DueCallback:
    """Callback that may be delivered now.

    Attributes:
        key: primary key of its row.
        tenant_id: owner of its job.
        host: host and port of its URL.
        tries: number of deliveries so far.
    """

    key: int
    tenant_id: int
    host: str
    tries: int

    @property
    def lane(self) -> tuple[int, str]:
        """Return tenant and host, because a host that fails for one tenant may work for another."""
        return self.tenant_id, self.host


class DeliverySlots:
    """Deliveries that are under way, and hosts that fail."""

    def __init__(self) -> None:
        self._keys: set[int] = set()
        self._of_tenant: Counter[int] = Counter()
        self._of_lane: Counter[tuple[int, str]] = Counter()
        # Deliveries that took a slot for failing hosts, by key: a host may recover in between.
        self._failing_keys: dict[int, int] = {}
        self._failing: OrderedDict[tuple[int, str], None] = OrderedDict()

    @property
    def free(self) -> int:
        """Return the number of free slots."""
        return MAX_DELIVERIES - len(self._keys)

    def has_free_slot(self, tenant_id: int) -> bool:
        """Tell whether a tenant may have a further delivery."""
        return self.free > 0 and self._of_tenant[tenant_id] < MAX_OF_TENANT

    def choose(self, due: Iterable[DueCallback]) -> list[DueCallback]:
        """Take slots for callbacks, one after another for the tenant with the fewest deliveries.

        Args:
            due: callbacks in the order of their times. Those under way already are ignored.

        Returns:
            The callbacks that have a slot now; ``release`` each of them.
        """
        waiting: defaultdict[int, list[DueCallback]] = defaultdict(list)
        for callback in due:
            waiting[callback.tenant_id].append(callback)
        # First tries come first: a callback that failed has waited for its pause already.
        queues = {tenant: deque(sorted(rows, key=self._is_failing)) for tenant, rows in waiting.items()}
        chosen: list[DueCallback] = []
        while queues and self.free > 0:
            tenant = min(queues, key=lambda one: self._of_tenant[one])
            if (found := self._next(queues[tenant])) is None:
                del queues[tenant]
            else:
                chosen.append(found)
        return chosen

    def release(self, callback: DueCallback, *, succeeded: bool | None) -> None:
        """Free the slot of a delivery, and remember whether its host works; None if that is unknown."""
        self._keys.discard(callback.key)
        self._failing_keys.pop(callback.key, None)
        self._of_tenant -= Counter([callback.tenant_id])
        self._of_lane -= Counter([callback.lane])
        if succeeded:
            self._failing.pop(callback.lane, None)
        elif succeeded is False:
            self._failing[callback.lane] = None
            if len(self._failing) > _MAX_KNOWN_FAILING:
                self._failing.popitem(last=False)

    def _next(self, queue: deque[DueCallback]) -> DueCallback | None:
        while queue:
            callback = queue.popleft()
            if callback.key not in self._keys and self._fits(callback):
                self._take(callback)
                return callback
        return None

    def _fits(self, callback: DueCallback) -> bool:
        if not self.has_free_slot(callback.tenant_id):
            return False
        if not self._is_failing(callback):
            return self._of_lane[callback.lane] < MAX_OF_HOST
        failing = sum(tenant == callback.tenant_id for tenant in self._failing_keys.values())
        return self._of_lane[callback.lane] < MAX_OF_FAILING_HOST and failing < MAX_FAILING_OF_TENANT

    def _take(self, callback: DueCallback) -> None:
        if self._is_failing(callback):
            self._failing_keys[callback.key] = callback.tenant_id
        self._keys.add(callback.key)
        self._of_tenant[callback.tenant_id] += 1
        self._of_lane[callback.lane] += 1

    def _is_failing(self, callback: DueCallback) -> bool:
        return callback.tries > 0 or callback.lane in self._failing
