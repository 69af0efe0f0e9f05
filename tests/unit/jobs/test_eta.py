"""Estimates of waiting: the queue played forward."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.eta import SlotsView, WaitingView, estimate, remaining, typical


def queue(*jobs: tuple[str, float | None]) -> list[WaitingView]:
    return [WaitingView(number, tuple(shards.split()), took) for number, (shards, took) in enumerate(jobs, 1)]


@pytest.mark.parametrize(
    ("waiting", "slots", "expected"),
    [
        # A free slot is taken at once.
        (queue(("a", 60)), {"a": SlotsView(1, ())}, {1: 0}),
        # One slot, one after the other.
        (queue(("a", 60), ("a", 30), ("a", 5)), {"a": SlotsView(0, (10,))}, {1: 10, 2: 70, 3: 100}),
        # Two slots share the work.
        (queue(("a", 60), ("a", 60), ("a", 60)), {"a": SlotsView(0, (10, 20))}, {1: 10, 2: 20, 3: 70}),
        # The shard that is free first, of those that fit.
        (queue(("a b", 60)), {"a": SlotsView(0, (50,)), "b": SlotsView(0, (5,))}, {1: 5}),
        (queue(("b", 60), ("a b", 60)), {"a": SlotsView(0, (50,)), "b": SlotsView(0, (5,))}, {1: 5, 2: 50}),
        # Another class's queue costs nothing.
        (queue(("a", 9000), ("b", 60)), {"a": SlotsView(1, ()), "b": SlotsView(1, ())}, {1: 0, 2: 0}),
        # No shard that is well.
        (queue(("gone", 60), ("a", 60)), {"a": SlotsView(1, ())}, {2: 0}),
        # Behind a job of unknown length nobody can say, but the others go on.
        (queue(("a", None), ("a", 60)), {"a": SlotsView(1, ())}, {1: 0}),
        (queue(("a", None), ("a", 60)), {"a": SlotsView(1, (7,))}, {1: 0, 2: 7}),
        # A running job of unknown length frees its slot nobody knows when.
        (queue(("a", 60)), {"a": SlotsView(0, (None,))}, {}),
        ([], {"a": SlotsView(1, ())}, {}),
    ],
)
def test_the_queue_is_played_forward(
    waiting: list[WaitingView], slots: dict[str, SlotsView], expected: dict[int, float]
) -> None:
    assert estimate(waiting, slots) == expected


@pytest.mark.parametrize(
    ("usual", "elapsed", "left"), [(100, 0, 100), (100, 30, 70), (100, 90, 25), (100, 500, 25), (None, 5, None)]
)
def test_what_a_running_job_needs_still(usual: float | None, elapsed: float, left: float | None) -> None:
    assert remaining(usual, elapsed) == left


def test_what_is_usual() -> None:
    usual = typical([(("git",), 10), (("git",), 20), (("git",), 90), (("browser",), 500)])
    assert usual(("git",)) == 20
    assert usual(("browser",)) == 500
    assert usual(("other",)) == 90
    assert typical([])(("git",)) is None


@given(st.lists(st.integers(1, 100), min_size=1, max_size=30), st.integers(1, 5))
def test_who_comes_later_never_starts_sooner_in_one_class(durations: list[int], slots: int) -> None:
    found = estimate(queue(*[("a", took) for took in durations]), {"a": SlotsView(slots, ())})
    starts = [found[number] for number in range(1, len(durations) + 1)]
    assert starts == sorted(starts)
    assert starts[:slots] == [0] * min(slots, len(starts))
