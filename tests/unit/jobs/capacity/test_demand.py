"""Pools that waiting jobs count for."""

from __future__ import annotations

from jobs.capacity.demand import AssignmentRank, PoolCandidate, WaitingJobs, waits_by_pool

GIT = frozenset({"git"})
SMALL = PoolCandidate(1, "small", frozenset({"git"}))
LARGE = PoolCandidate(2, "large", frozenset({"git", "browser"}))
BOTH = {7: {"small": AssignmentRank(False, 100), "large": AssignmentRank(False, 100)}}
FREE = {7: None}


def jobs(count: int = 1, waited_s: float = 5, needs: frozenset[str] = GIT, tenant: int = 7) -> WaitingJobs:
    return WaitingJobs(tenant, needs, waited_s, count)


def test_counts_for_the_least_over_qualified_pool_only() -> None:
    assert waits_by_pool([jobs(2)], [LARGE, SMALL], BOTH, FREE) == {1: [5, 5]}


def test_counts_for_the_pool_with_the_capabilities() -> None:
    needy = jobs(needs=frozenset({"browser"}))
    assert waits_by_pool([needy], [LARGE, SMALL], BOTH, FREE) == {2: [5]}


def test_prefers_the_default_then_the_priority() -> None:
    rights = {7: {"small": AssignmentRank(False, 100), "large": AssignmentRank(False, 50)}}
    assert waits_by_pool([jobs()], [LARGE, SMALL], rights, FREE) == {2: [5]}
    rights = {7: {"small": AssignmentRank(True, 100), "large": AssignmentRank(False, 50)}}
    assert waits_by_pool([jobs()], [LARGE, SMALL], rights, FREE) == {1: [5]}


def test_counts_for_the_next_pool_when_the_first_cannot_grow() -> None:
    full = PoolCandidate(1, "small", GIT, can_grow=False)
    assert waits_by_pool([jobs()], [full, LARGE], BOTH, FREE) == {2: [5]}
    assert waits_by_pool([jobs()], [full], BOTH, FREE) == {1: [5]}


def test_ignores_pools_that_the_tenant_may_not_use() -> None:
    assert waits_by_pool([jobs(tenant=8)], [SMALL], BOTH, {8: None}) == {}


def test_counts_the_longest_waits_up_to_the_limit_of_the_tenant() -> None:
    waiting = [jobs(2, waited_s=1), jobs(2, waited_s=9)]
    assert waits_by_pool(waiting, [SMALL], BOTH, {7: 3}) == {1: [9, 9, 1]}
    assert waits_by_pool(waiting, [SMALL], BOTH, {7: -1}).get(1, []) == []


def test_ignores_jobs_of_an_inactive_tenant() -> None:
    assert waits_by_pool([jobs()], [SMALL], BOTH, {}).get(1, []) == []
