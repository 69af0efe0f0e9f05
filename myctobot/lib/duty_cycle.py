"""Duty cycle: pauses that keep frequent work from using a whole processor."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class DutyCycle:
    """Require a pause after each run that is proportional to the cost of the run; requests collect during the pause.

    A first run, and a run after a quiet time, does not wait.

    Args:
        pause: length of the pause, as a multiple of the cost.
        cost: returns seconds of processor time, read before and after a run. Elapsed time would lengthen the pauses of
            a busy machine, which is slow already.
        clock: returns monotonic seconds.
        sleep: waits for a number of seconds.
    """

    def __init__(
        self,
        pause: float,
        cost: Callable[[], float] = time.thread_time,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._pause, self._cost, self._clock, self._sleep = pause, cost, clock, sleep
        self._lock = threading.Lock()
        self._next_at = float("-inf")

    @contextmanager
    def work(self) -> Iterator[None]:
        """Wait until the pause ends, then measure the cost of the block."""
        with self._lock:
            wait_s = self._next_at - self._clock()
        if wait_s > 0:
            self._sleep(wait_s)
        before = self._cost()
        try:
            yield
        finally:
            with self._lock:
                self._next_at = self._clock() + self._pause * (self._cost() - before)
