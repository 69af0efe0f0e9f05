"""The estimate of waiting."""

from __future__ import annotations

import pytest

from jobs.eta import FlowView, Forecast, RunningView, remaining, typical

ME, OTHER = 1, 2
NORMAL, BATCH = 20, 30


def flow(tenant: int = ME, jobs: int = 1, duration_s: float | None = 100, place: int = NORMAL) -> FlowView:
    return FlowView((tenant, place), tenant, place, jobs, duration_s)


def start_s(
    *flows: FlowView, position: int = 0, free: int = 0, running: tuple[RunningView, ...] = (), **more: int
) -> float | None:
    forecast = Forecast(flows, running, free, {}, **{"most_steps": 5000, **more})
    return forecast.start_s((ME, flows[0].place), position)


def busy(*remaining_s: float | None, tenant: int = OTHER) -> tuple[RunningView, ...]:
    return tuple(RunningView(tenant, seconds) for seconds in remaining_s)


def test_a_free_slot_means_at_once() -> None:
    assert start_s(flow(), free=1) == 0


def test_behind_full_slots_the_first_that_ends() -> None:
    assert start_s(flow(), running=busy(50, 30)) == 30


@pytest.mark.parametrize(("position", "expected"), [(0, 10), (1, 20), (2, 110), (3, 120), (4, 210)])
def test_each_of_a_flow_takes_the_next_slot(position: int, expected: float) -> None:
    assert start_s(flow(jobs=5), running=busy(10, 20), position=position) == expected


def test_another_tenants_thousands_do_not_go_before_mine() -> None:
    assert start_s(flow(), flow(OTHER, jobs=10_000), running=busy(10, 20, 30)) == 10


def test_turns_are_taken() -> None:
    mine = flow(jobs=3)
    starts = [start_s(mine, flow(OTHER, jobs=3), free=1, position=n) for n in range(3)]
    assert starts == [0, 200, 400]


def test_a_class_goes_before_the_next() -> None:
    assert start_s(flow(place=BATCH), flow(OTHER, jobs=3), free=1) == 300


@pytest.mark.parametrize(
    ("flows", "running"),
    [
        ((flow(),), ()),
        ((flow(),), busy(None)),
        ((flow(), flow(OTHER, duration_s=None, place=10)), busy(5)),
    ],
    ids=["no slot", "a slot that may never end", "something of unknown length before"],
)
def test_nobody_can_say(flows: tuple[FlowView, ...], running: tuple[RunningView, ...]) -> None:
    assert start_s(*flows, running=running) is None


def test_what_lies_beyond_the_steps_goes_on_at_the_same_pace() -> None:
    mine = flow(jobs=10_000)
    exact = start_s(mine, free=3, position=900)
    assert start_s(mine, free=3, position=900, most_steps=90) == pytest.approx(exact, rel=0.05)


def test_a_slot_that_ends_makes_its_tenant_poorer() -> None:
    # Both slots are the other's: the first that is free is mine, the second his again, and the third mine.
    assert start_s(flow(jobs=2), flow(OTHER, jobs=9), running=busy(10, 20), position=1) == 110


@pytest.mark.parametrize(
    ("duration_s", "elapsed_s", "expected"), [(100, 30, 70), (100, 90, 25), (100, 500, 25), (None, 5, None)]
)
def test_what_a_running_job_may_need_still(duration_s: float | None, elapsed_s: float, expected: float | None) -> None:
    assert remaining(duration_s, elapsed_s) == expected


def test_the_mean_of_the_same_lane_or_of_all() -> None:
    usual = typical([("git", 10), ("git", 30), ("browser", 100)])
    assert usual("git") == 20
    assert usual("browser") == 100
    assert usual("unknown") == pytest.approx(140 / 3)
    assert typical([])("git") is None
