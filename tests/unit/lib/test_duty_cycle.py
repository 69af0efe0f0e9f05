from __future__ import annotations

import pytest

from myctobot.lib.duty_cycle import DutyCycle


class Clock:
    """Clock that advances only during sleep and work."""

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
def duty_cycle(clock: Clock) -> DutyCycle:
    return DutyCycle(3, clock, clock, clock.sleep)


def work(duty_cycle: DutyCycle, clock: Clock, seconds: float) -> None:
    with duty_cycle.work():
        clock.now += seconds


def test_the_first_work_does_not_wait(duty_cycle: DutyCycle, clock: Clock) -> None:
    work(duty_cycle, clock, 5)
    assert clock.slept == []


def test_the_pause_is_proportional_to_the_last_work(duty_cycle: DutyCycle, clock: Clock) -> None:
    work(duty_cycle, clock, 5)
    work(duty_cycle, clock, 0.1)
    work(duty_cycle, clock, 0.1)
    assert clock.slept == pytest.approx([15, 0.3])


def test_idle_time_counts_as_the_pause(duty_cycle: DutyCycle, clock: Clock) -> None:
    work(duty_cycle, clock, 1)
    clock.now += 2
    work(duty_cycle, clock, 1)
    clock.now += 10
    work(duty_cycle, clock, 1)
    assert clock.slept == pytest.approx([1])


def test_failed_work_counts_too(duty_cycle: DutyCycle, clock: Clock) -> None:
    def fail() -> None:
        clock.now += 2
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"), duty_cycle.work():
        fail()
    work(duty_cycle, clock, 1)
    assert clock.slept == pytest.approx([6])
