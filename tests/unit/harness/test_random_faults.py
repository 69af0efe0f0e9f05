"""Plan of a run of random faults: it depends on its seed only, and contains every kind of fault."""

from __future__ import annotations

from datetime import date, timedelta
from itertools import islice, pairwise

import pytest

from tests.factories.random_faults import (
    FAULTS,
    LASTING,
    LONG_STOP_S,
    callback_answer,
    plan_faults,
    plan_jobs,
    seed_of_day,
)

KINDS = {(part, fault) for part, faults in FAULTS.items() for fault in faults}


@pytest.mark.parametrize("seed", [1, 2])
def test_a_seed_gives_the_same_run(seed: int) -> None:
    assert plan_faults(seed, 900) == plan_faults(seed, 900)
    assert list(islice(plan_jobs(seed), 50)) == list(islice(plan_jobs(seed), 50))
    assert callback_answer(seed, 3, 0) == callback_answer(seed, 3, 0)


def test_other_seeds_give_other_runs() -> None:
    assert len({plan_faults(seed, 60) for seed in range(50)}) == 50
    assert len({tuple(islice(plan_jobs(seed), 5)) for seed in range(50)}) == 50


def test_each_day_has_its_own_seed() -> None:
    days = [date(2030, 1, 1) + timedelta(days=n) for n in range(365)]
    assert len({seed_of_day(day) for day in days}) == 365
    assert seed_of_day(days[0]) == seed_of_day(date(2030, 1, 1))


@pytest.mark.parametrize("seed", range(20))
def test_a_plan_is_in_order_and_within_its_time(seed: int) -> None:
    plan = plan_faults(seed, 60)
    assert len(plan) >= 3
    assert all(0 < before.at_s < after.at_s < 60 for before, after in pairwise(plan))
    assert all((fault.lasts_s > 0) == (fault.fault in LASTING) for fault in plan)
    assert all(fault.lasts_s <= 15 and 0 <= fault.pick < 1 for fault in plan)


@pytest.mark.parametrize("seed", [1, 2])
def test_a_quarter_of_an_hour_has_every_kind_and_loses_a_runner(seed: int) -> None:
    plan = plan_faults(seed, 900)
    assert {(fault.part, fault.fault) for fault in plan} == KINDS
    # The rule about free slots needs the time in which no fault pauses its clock.
    assert sum(1 for before, after in pairwise(plan) if after.at_s - before.at_s - before.lasts_s > 8) >= 10
    assert any(fault.lasts_s == LONG_STOP_S for seed in (1, 2) for fault in plan_faults(seed, 900))


def test_no_kind_comes_twice_before_every_kind_came_once() -> None:
    plan = plan_faults(5, 3000)
    first = [(fault.part, fault.fault) for fault in plan[: len(KINDS)]]
    assert set(first) == KINDS


def test_the_load_has_every_feature() -> None:
    jobs = list(islice(plan_jobs(1), 100))
    assert [job.number for job in jobs] == list(range(1, 101))
    assert {job.has_repository for job in jobs} == {True, False}
    assert {bool(job.branch) for job in jobs if job.has_repository} == {True, False}
    assert not any(job.branch for job in jobs if not job.has_repository)
    assert {job.concurrency_key for job in jobs} == {"", "deploy", "nightly"}
    assert {job.has_callback for job in jobs} == {True, False}
    assert {job.cancel_after_s is None for job in jobs} == {True, False}
    assert {job.resubmits for job in jobs} == {0, 1, 3}
    branches = [job.branch for job in jobs if job.branch]
    assert len(set(branches)) == len(branches)


def test_the_third_try_of_a_callback_is_accepted() -> None:
    firsts = [callback_answer(1, number, 0) for number in range(200)]
    assert {status for status, _ in firsts} == {200, 500}
    # Some answers come after the sender has given up.
    assert any(wait_s > 10 for _, wait_s in firsts)
    assert {callback_answer(1, number, 2) for number in range(200)} == {(200, 0.0)}
