"""Which pool a waiting job counts for."""

from __future__ import annotations

from jobs.capacity.demand import PoolOffer, Right, Waiting, waits_by_pool

GIT = frozenset({"git"})
SMALL = PoolOffer(1, "small", frozenset({"git"}))
LARGE = PoolOffer(2, "large", frozenset({"git", "browser"}))
BOTH = {7: {"small": Right(False, 100), "large": Right(False, 100)}}
FREE = {7: None}


def jobs(count: int = 1, waited_s: float = 5, needs: frozenset[str] = GIT, tenant: int = 7) -> Waiting:
    return Waiting(tenant, needs, waited_s, count)


def test_for_the_least_over_qualified_one_and_for_no_other() -> None:
    assert waits_by_pool([jobs(2)], [LARGE, SMALL], BOTH, FREE) == {1: [5, 5]}


def test_for_the_one_that_has_what_it_needs() -> None:
    needy = jobs(needs=frozenset({"browser"}))
    assert waits_by_pool([needy], [LARGE, SMALL], BOTH, FREE) == {2: [5]}


def test_by_priority_and_for_the_default_first() -> None:
    rights = {7: {"small": Right(False, 100), "large": Right(False, 50)}}
    assert waits_by_pool([jobs()], [LARGE, SMALL], rights, FREE) == {2: [5]}
    rights = {7: {"small": Right(True, 100), "large": Right(False, 50)}}
    assert waits_by_pool([jobs()], [LARGE, SMALL], rights, FREE) == {1: [5]}


def test_for_the_next_one_when_the_first_cannot_grow() -> None:
    full = PoolOffer(1, "small", GIT, has_room=False)
    assert waits_by_pool([jobs()], [full, LARGE], BOTH, FREE) == {2: [5]}
    assert waits_by_pool([jobs()], [full], BOTH, FREE) == {1: [5]}


def test_for_none_that_its_tenant_may_not_use() -> None:
    assert waits_by_pool([jobs(tenant=8)], [SMALL], BOTH, {8: None}) == {}


def test_of_a_tenant_with_a_limit_only_what_it_may_run_the_longest_waits_first() -> None:
    waiting = [jobs(2, waited_s=1), jobs(2, waited_s=9)]
    assert waits_by_pool(waiting, [SMALL], BOTH, {7: 3}) == {1: [9, 9, 1]}
    assert waits_by_pool(waiting, [SMALL], BOTH, {7: -1}).get(1, []) == []


def test_of_a_tenant_that_is_switched_off_none() -> None:
    assert waits_by_pool([jobs()], [SMALL], BOTH, {}).get(1, []) == []
