from __future__ import annotations

import threading
import time

from jobs.broker import Bell


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def bell(rung: list[str], apart_s: float, clock: Clock) -> Bell:
    return Bell(lambda: rung.append(threading.current_thread().name), apart_s, clock)


def wait(rung: list[str], count: int) -> None:
    deadline = time.monotonic() + 5
    while len(rung) < count:
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_the_first_rings_at_once_where_it_was_asked_for() -> None:
    rung: list[str] = []
    bell(rung, 60, Clock()).ask()
    assert rung == [threading.current_thread().name]


def test_those_who_ask_soon_afterwards_ring_once_later() -> None:
    rung: list[str] = []
    clock = Clock()
    one = bell(rung, 0.1, clock)
    one.ask()
    for _ in range(20):
        clock.now += 0.001
        one.ask()
    assert len(rung) == 1
    wait(rung, 2)
    assert rung[1] != threading.current_thread().name
    time.sleep(0.15)
    assert len(rung) == 2


def test_who_asks_after_the_later_one_is_heard_again() -> None:
    rung: list[str] = []
    clock = Clock()
    one = bell(rung, 0.05, clock)
    one.ask()
    clock.now += 0.01
    one.ask()
    assert len(rung) == 1
    wait(rung, 2)
    # That one stood for all until then, and for nobody after it.
    clock.now += 0.041
    one.ask()
    assert len(rung) == 2
    wait(rung, 3)
    assert threading.current_thread().name not in rung[1:]


def test_after_a_quiet_time_it_rings_at_once_again() -> None:
    rung: list[str] = []
    clock = Clock()
    one = bell(rung, 5, clock)
    one.ask()
    clock.now += 6
    one.ask()
    assert len(rung) == 2
