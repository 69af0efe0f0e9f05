"""Fair order of waiting jobs."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.dispatch.fair_share import Flow, Order, TenantView, advance_clocks, effective_priority

HIGH, NORMAL, BATCH = 10, 20, 30


class Waiting:
    """Waiting jobs by tenant and priority."""

    def __init__(self, jobs: dict[tuple[int, int], int], age_s: dict[tuple[int, int], float] | None = None) -> None:
        self.left = dict(jobs)
        ages = age_s or {}
        self.flows = [
            Flow("git", priority, tenant, tenant * 1000, tenant * 1000, ages.get(key, 0.0))
            for key in jobs
            for tenant, priority in [key]
        ]

    def dispatched(
        self,
        slots: int,
        tenants: dict[int, TenantView] | None = None,
        have: dict[int, int] | None = None,
        ahead: dict[int, float] | None = None,
    ) -> list[tuple[int, int]]:
        """Return the tenant and the priority of the next dispatched jobs, in order."""
        order = Order(self.flows, tenants or {}, dict(have or {}), dict(ahead or {}))
        found: list[tuple[int, int]] = []
        while len(found) < slots and (flow := order.next()):
            key = (flow.tenant_id, flow.priority)
            if not self.left[key]:
                order.drop(flow)
            elif not flow.is_read:
                order.set_head(flow, flow.head + 1, flow.head_id + 1, flow.waited_s)
            else:
                found.append(key)
                self.left[key] -= 1
                order.mark_dispatched(flow)
        return found


def tenants_of(found: list[tuple[int, int]]) -> list[int]:
    return [tenant for tenant, _ in found]


def test_tenants_alternate() -> None:
    assert tenants_of(Waiting({(1, NORMAL): 9, (2, NORMAL): 9}).dispatched(4)) == [1, 2, 1, 2]


def test_ten_thousand_jobs_do_not_delay_the_first_job_of_another_tenant() -> None:
    waiting = Waiting({(1, NORMAL): 10_000, (2, NORMAL): 1})
    assert tenants_of(waiting.dispatched(1, have={1: 50})) == [2]


def test_with_one_slot_the_tenant_with_the_lowest_usage_goes_first() -> None:
    waiting = {(1, NORMAL): 10_000, (2, NORMAL): 5}
    assert tenants_of(Waiting(waiting).dispatched(1, ahead={1: 60.0})) == [2]
    assert tenants_of(Waiting(waiting).dispatched(1, ahead={2: 60.0})) == [1]


def test_slots_are_proportional_to_weights() -> None:
    tenants = {1: TenantView(weight=300), 2: TenantView(weight=100)}
    found = Waiting({(1, NORMAL): 90, (2, NORMAL): 90}).dispatched(40, tenants)
    assert Counter(tenants_of(found)) == {1: 30, 2: 10}


def test_a_limit_leaves_slots_to_other_tenants() -> None:
    found = Waiting({(1, NORMAL): 9, (2, NORMAL): 9}).dispatched(6, {1: TenantView(max_running=2)}, have={1: 1})
    assert Counter(tenants_of(found)) == {1: 1, 2: 5}


def test_higher_classes_go_first_regardless_of_shares() -> None:
    found = Waiting({(1, HIGH): 2, (2, NORMAL): 2, (3, BATCH): 2}).dispatched(6, have={1: 99})
    assert [priority for _, priority in found] == [HIGH, HIGH, NORMAL, NORMAL, BATCH, BATCH]


@pytest.mark.parametrize(
    ("priority", "waited_s", "expected"),
    [
        (HIGH, 1e9, HIGH),
        (NORMAL, 0, NORMAL),
        (NORMAL, 4 * 3600 - 1, NORMAL),
        (NORMAL, 4 * 3600, HIGH),
        (BATCH, 1799, BATCH),
        (BATCH, 1800, NORMAL),
        (BATCH, 1800 + 4 * 3600, HIGH),
    ],
)
def test_ageing_raises_the_class(priority: int, waited_s: float, expected: int) -> None:
    assert effective_priority(priority, waited_s) == expected


def test_batch_jobs_do_not_starve() -> None:
    waiting = Waiting({(1, HIGH): 100, (2, BATCH): 1}, age_s={(2, BATCH): 5 * 3600})
    assert (2, BATCH) in waiting.dispatched(2)


def test_the_oldest_job_of_a_tenant_goes_first() -> None:
    older, newer = (Flow(lane, NORMAL, 1, number, number, 0.0) for lane, number in (("a", 1), ("b", 2)))
    order = Order([newer, older], {}, {}, {})
    assert order.next() is older


def test_unplaceable_jobs_do_not_block_others() -> None:
    first, second = (Flow(lane, NORMAL, 1, number, number, 0.0) for lane, number in (("a", 1), ("b", 2)))
    order = Order([first, second], {}, {}, {})
    assert order.next() is first
    order.drop(first)
    assert order.next() is second
    order.drop(second)
    assert order.next() is None


@given(
    st.dictionaries(
        st.tuples(st.integers(1, 5), st.sampled_from([HIGH, NORMAL, BATCH])), st.integers(1, 12), min_size=1
    ),
    st.dictionaries(st.integers(1, 5), st.integers(0, 9)),
    st.integers(1, 40),
)
def test_all_slots_are_used_and_each_job_is_dispatched_once(
    jobs: dict[tuple[int, int], int], have: dict[int, int], slots: int
) -> None:
    waiting = Waiting(jobs)
    found = waiting.dispatched(slots, have=have)
    assert len(found) == min(slots, sum(jobs.values()))
    assert all(count <= jobs[key] for key, count in Counter(found).items())
    # No tenant gets a slot while another one that waits in the same class has fewer.
    slots_of = Counter(have)
    for tenant, priority in found:
        waits = {other for (other, p), n in jobs.items() if p == priority and Counter(found)[other, p] < n}
        assert all(slots_of[tenant] <= slots_of[other] for other in waits - {tenant})
        slots_of[tenant] += 1


def test_clocks_advance_by_slot_seconds_over_weight() -> None:
    tenants = {1: TenantView(100), 2: TenantView(200)}
    assert advance_clocks({}, {1: 20.0, 2: 20.0}, tenants, [1, 2, 3]) == {1: 20.0, 2: 10.0}


def test_clocks_are_relative_to_the_tenant_furthest_behind() -> None:
    assert advance_clocks({1: 50.0, 2: 20.0, 3: 90.0}, {}, {}, [1, 2]) == {1: 30.0, 3: 70.0}


def test_idle_tenants_get_no_credit() -> None:
    ahead: dict[int, float] = {}
    for _ in range(10):
        ahead = advance_clocks(ahead, {1: 60.0, 2: 60.0}, {}, [1, 2])
    assert advance_clocks(ahead, {}, {}, [1, 2, 3]).get(3, 0.0) == ahead.get(1, 0.0) == 0.0


def test_waiting_tenants_keep_their_lag() -> None:
    ahead: dict[int, float] = {}
    for _ in range(3):
        ahead = advance_clocks(ahead, {1: 60.0, 2: 30.0}, {}, [1, 2, 3])
    assert ahead == {1: 180.0, 2: 90.0}


def test_negative_usage_is_ignored() -> None:
    assert advance_clocks({1: 5.0}, {1: -100.0}, {}, [2]) == {1: 5.0}
