from __future__ import annotations

import threading
import time

from myctobot.lib.debounce import Debouncer


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def make(calls: list[str], interval_s: float, clock: Clock) -> Debouncer:
    return Debouncer(lambda: calls.append(threading.current_thread().name), interval_s, clock)


def wait(calls: list[str], count: int) -> None:
    deadline = time.monotonic() + 5
    while len(calls) < count:
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_the_first_request_calls_at_once_in_the_same_thread() -> None:
    calls: list[str] = []
    make(calls, 60, Clock()).trigger()
    assert calls == [threading.current_thread().name]


def test_requests_soon_afterwards_are_merged_into_one_later_call() -> None:
    calls: list[str] = []
    clock = Clock()
    one = make(calls, 0.1, clock)
    one.trigger()
    for _ in range(20):
        clock.now += 0.001
        one.trigger()
    assert len(calls) == 1
    wait(calls, 2)
    assert calls[1] != threading.current_thread().name
    time.sleep(0.15)
    assert len(calls) == 2


def test_a_request_after_the_later_call_gets_another_one() -> None:
    calls: list[str] = []
    clock = Clock()
    one = make(calls, 0.05, clock)
    one.trigger()
    clock.now += 0.01
    one.trigger()
    assert len(calls) == 1
    wait(calls, 2)
    # That call served all requests until then, and none after it.
    clock.now += 0.041
    one.trigger()
    assert len(calls) == 2
    wait(calls, 3)
    assert threading.current_thread().name not in calls[1:]


def test_a_request_after_a_pause_calls_at_once_again() -> None:
    calls: list[str] = []
    clock = Clock()
    one = make(calls, 5, clock)
    one.trigger()
    clock.now += 6
    one.trigger()
    assert len(calls) == 2
