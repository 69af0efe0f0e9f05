"""Choice of the callbacks that are delivered next."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import count

import pytest

from jobs.callbacks.slots import (
    MAX_DELIVERIES,
    MAX_FAILING_OF_TENANT,
    MAX_OF_HOST,
    MAX_OF_TENANT,
    DeliverySlots,
    DueCallback,
)


@pytest.fixture
def keys() -> Iterator[int]:
    return count(1)


def due(keys: Iterator[int], number: int, *, tenant: int = 1, host: str = "a", tries: int = 0) -> list[DueCallback]:
    return [DueCallback(next(keys), tenant, host, tries) for _ in range(number)]


def test_a_host_and_a_tenant_and_all_have_maxima(keys: Iterator[int]) -> None:
    slots = DeliverySlots()
    assert len(slots.choose(due(keys, 100))) == MAX_OF_HOST
    hosts = [callback for host in range(50) for callback in due(keys, 4, host=f"h{host}")]
    assert len(slots.choose(hosts)) == MAX_OF_TENANT - MAX_OF_HOST
    tenants = [callback for tenant in range(2, 200) for callback in due(keys, 4, tenant=tenant)]
    assert len(slots.choose(tenants)) == MAX_DELIVERIES - MAX_OF_TENANT
    assert slots.free == 0


def test_the_tenant_with_the_fewest_deliveries_is_next(keys: Iterator[int]) -> None:
    slots = DeliverySlots()
    many = [callback for host in range(40) for callback in due(keys, 4, host=f"h{host}")]
    first = slots.choose(many)
    assert len(first) == MAX_OF_TENANT
    others = [callback for tenant in range(2, 40) for callback in due(keys, 4, tenant=tenant)]
    taken = Counter(callback.tenant_id for callback in slots.choose(many + others))
    assert taken[1] == 0
    assert set(taken.values()) <= {2, 3, 4}


def test_a_host_that_fails_gets_one_delivery_until_it_works(keys: Iterator[int]) -> None:
    slots = DeliverySlots()
    for callback in slots.choose(due(keys, 4)):
        slots.release(callback, succeeded=False)
    (one,) = slots.choose(due(keys, 4))
    slots.release(one, succeeded=True)
    assert len(slots.choose(due(keys, 4))) == MAX_OF_HOST


def test_a_host_that_fails_for_one_tenant_is_not_slower_for_another(keys: Iterator[int]) -> None:
    slots = DeliverySlots()
    for callback in slots.choose(due(keys, 4)):
        slots.release(callback, succeeded=False)
    assert len(slots.choose(due(keys, 4, tenant=2))) == MAX_OF_HOST


def test_failing_hosts_leave_half_of_the_slots_to_the_others(keys: Iterator[int]) -> None:
    slots = DeliverySlots()
    dead = [callback for host in range(100) for callback in due(keys, 4, host=f"dead-{host}", tries=3)]
    assert len(slots.choose(dead)) == MAX_FAILING_OF_TENANT
    assert len(slots.choose(dead + due(keys, 4, host="healthy"))) == MAX_OF_HOST


def test_first_tries_come_before_repeated_ones(keys: Iterator[int]) -> None:
    slots = DeliverySlots()
    old, new = due(keys, 4, host="dead", tries=1), due(keys, 1, host="b")
    assert slots.choose(old + new) == [*new, old[0]]


def test_a_delivery_under_way_is_not_chosen_again(keys: Iterator[int]) -> None:
    slots = DeliverySlots()
    callbacks = due(keys, 2)
    assert slots.choose(callbacks) == callbacks
    assert slots.choose(callbacks) == []
    for callback in callbacks:
        slots.release(callback, succeeded=True)
    assert slots.free == MAX_DELIVERIES
