"""A clock that stands still while the agent is frozen."""

from __future__ import annotations

from workers.awake import AwakeClock


class Time:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_it_counts_from_its_beginning() -> None:
    time = Time()
    clock = AwakeClock(time)
    time.now += 5
    assert clock.seconds() == 5


def test_time_asleep_does_not_count() -> None:
    time = Time()
    clock = AwakeClock(time)
    time.now += 5
    clock.sleep()
    time.now += 60
    assert clock.seconds() == 5
    clock.sleep()
    clock.wake()
    clock.wake()
    time.now += 2
    assert clock.seconds() == 7
