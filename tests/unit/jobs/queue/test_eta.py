"""Estimates of waiting times."""

from __future__ import annotations

import itertools

import pytest

from jobs.queue.eta import FlowView, Forecast, Lengths, MeanForecast, RunningView, arrival_rates, lengths_by_lane

ME, OTHER = 1, 2
NORMAL, BATCH = 20, 30


def took(seconds: float | None) -> Lengths:
    return Lengths() if seconds is None else Lengths((seconds,))


def flow(tenant: int = ME, jobs: int = 1, duration_s: float | None = 100, place: int = NORMAL) -> FlowView:
    return FlowView((tenant, place), tenant, place, jobs, took(duration_s))


def start_s(
    *flows: FlowView, position: int = 0, free: int = 0, running: tuple[RunningView, ...] = (), max_steps: int = 5000
) -> float | None:
    forecast = MeanForecast(flows, running, free, {}, max_steps=max_steps)
    return forecast.start_s((ME, flows[0].priority), position)


def busy(*remaining_s: float | None, tenant: int = OTHER) -> tuple[RunningView, ...]:
    return tuple(RunningView(tenant, took(seconds)) for seconds in remaining_s)


def test_a_free_slot_means_no_wait() -> None:
    assert start_s(flow(), free=1) == 0


def test_waits_for_the_first_slot_that_ends() -> None:
    assert start_s(flow(), running=busy(50, 30)) == 30


@pytest.mark.parametrize(("position", "expected"), [(0, 10), (1, 20), (2, 110), (3, 120), (4, 210)])
def test_each_job_of_a_flow_takes_the_next_slot(position: int, expected: float) -> None:
    assert start_s(flow(jobs=5), running=busy(10, 20), position=position) == expected


def test_many_jobs_of_another_tenant_do_not_go_first() -> None:
    assert start_s(flow(), flow(OTHER, jobs=10_000), running=busy(10, 20, 30)) == 10


def test_tenants_alternate() -> None:
    mine = flow(jobs=3)
    starts = [start_s(mine, flow(OTHER, jobs=3), free=1, position=n) for n in range(3)]
    assert starts == [0, 200, 400]


def test_higher_classes_go_first() -> None:
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
def test_unknown_waits(flows: tuple[FlowView, ...], running: tuple[RunningView, ...]) -> None:
    assert start_s(*flows, running=running) is None


def test_waits_beyond_the_simulated_steps_are_extrapolated() -> None:
    mine = flow(jobs=10_000)
    exact = start_s(mine, free=3, position=900)
    assert start_s(mine, free=3, position=900, max_steps=90) == pytest.approx(exact, rel=0.05)


def test_an_ended_job_counts_as_usage_of_its_tenant() -> None:
    # The other tenant has both slots. The first free one is mine, the second the other's, the third mine.
    assert start_s(flow(jobs=2), flow(OTHER, jobs=9), running=busy(10, 20), position=1) == 110


@pytest.mark.parametrize(
    ("elapsed_s", "part", "expected"), [(0, 0.0, 10), (0, 0.99, 40), (15, 0.0, 5), (15, 0.99, 25), (99, 0.5, 6.25)]
)
def test_remaining_time_of_a_running_job(elapsed_s: float, part: float, expected: float) -> None:
    assert Lengths((10, 20, 30, 40)).left(elapsed_s, part) == expected


def test_lengths_are_an_even_sample() -> None:
    lengths = Lengths.of(float(n) for n in reversed(range(6400)))
    assert len(lengths.seconds) == 64
    assert lengths.seconds[:2] == (0, 100)
    assert [lengths.draw(part) for part in (0.0, 0.5, 0.999)] == [0, 3200, 6300]
    assert Lengths.of([]).draw(0.5) is Lengths.of([]).left(3, 0.5) is None


def test_with_many_slots_the_first_is_free_early() -> None:
    half_done = tuple(RunningView(OTHER, Lengths.of(range(100)), 50.0) for _ in range(20))
    waits = start_s(flow(), running=half_done)
    assert waits is not None
    assert waits < 10


# Similar jobs take either 4 s or 105 s.
MIXED = Lengths((4.0, 105.0))


@pytest.mark.parametrize("elapsed", list(itertools.permutations([2.0, 50.0, 60.0])))
def test_the_order_of_the_running_jobs_does_not_matter(elapsed: tuple[float, ...]) -> None:
    running = tuple(RunningView(OTHER, MIXED, seconds) for seconds in elapsed)
    # The first one ends in 2 s or in 103 s, and the third in 45 s, each as often as the other.
    assert start_s(flow(), running=running) == pytest.approx((2 + 45) / 2)


def test_one_more_running_job_does_not_turn_a_short_wait_into_a_long_one() -> None:
    alone = start_s(flow(), running=(RunningView(OTHER, MIXED, 2.0),))
    assert alone == pytest.approx((2 + 103) / 2)
    for more in range(1, 8):
        # Jobs that may never end free no slot for this one, but they change the durations that are drawn.
        silent = (RunningView(OTHER, Lengths()),) * more
        assert start_s(flow(), running=(*silent, RunningView(OTHER, MIXED, 2.0))) == alone


def test_durations_of_the_same_lane_or_of_all_lanes() -> None:
    usual = lengths_by_lane([("git", 10), ("git", 30), ("browser", 100)])
    assert usual("git") == Lengths((10, 30))
    assert usual("browser") == Lengths((100,))
    assert usual("unknown") == Lengths((10, 30, 100))
    assert lengths_by_lane([])("git") == Lengths()


def test_ageing_raises_the_class_during_the_simulation() -> None:
    batch, stream = flow(place=BATCH), FlowView("normal", OTHER, NORMAL, 1000, took(100))
    assert start_s(batch, stream, free=1) == pytest.approx(1800, abs=100)


def test_later_arrivals_of_a_higher_class_go_first() -> None:
    batch = flow(place=BATCH)
    stream = FlowView("normal", OTHER, NORMAL, 1, took(100), per_s=1 / 90)
    assert start_s(batch, stream, free=1) == 100
    forecast = Forecast([batch, stream], (), 1, {}, arrivals_for_s=900)
    assert forecast.start_s((ME, BATCH), 0) == pytest.approx(1100, abs=100)


def test_rates_are_those_of_recent_arrivals() -> None:
    arrivals = [("a", 100.0 * n) for n in range(15)] + [("b", 1000.0)]
    rates, for_s = arrival_rates(arrivals, 2000.0)
    assert rates == {"a": 15 / 2000, "b": 1 / 2000}
    assert for_s == 2000
    assert arrival_rates(arrivals[:9], 2000.0) == ({}, 0.0)
