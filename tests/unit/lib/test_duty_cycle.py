from __future__ import annotations

import pytest

from myctobot.lib.duty_cycle import Pace


class Clock:
    """Time passes only while somebody sleeps or works."""

    def __init__(self) -> None:
        self.now = 100.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def pace(clock: Clock) -> Pace:
    return Pace(3, clock, clock, clock.sleep)


def work(pace: Pace, clock: Clock, seconds: float) -> None:
    with pace.work():
        clock.now += seconds


def test_the_first_never_waits(pace: Pace, clock: Clock) -> None:
    work(pace, clock, 5)
    assert clock.slept == []


def test_the_next_waits_in_proportion_to_the_last(pace: Pace, clock: Clock) -> None:
    work(pace, clock, 5)
    work(pace, clock, 0.1)
    work(pace, clock, 0.1)
    assert clock.slept == pytest.approx([15, 0.3])


def test_a_quiet_time_counts_as_the_pause(pace: Pace, clock: Clock) -> None:
    work(pace, clock, 1)
    clock.now += 2
    work(pace, clock, 1)
    clock.now += 10
    work(pace, clock, 1)
    assert clock.slept == pytest.approx([1])


def test_work_that_fails_counts_too(pace: Pace, clock: Clock) -> None:
    def fail() -> None:
        clock.now += 2
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"), pace.work():
        fail()
    work(pace, clock, 1)
    assert clock.slept == pytest.approx([6])
