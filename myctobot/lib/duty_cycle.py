"""Keeps work that is asked for again and again from taking a processor for itself."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Pace:
    """After each piece of work comes a pause in proportion to its cost, in which those who ask meanwhile gather.

    A first piece of work, and one that comes after a quiet time, never waits.

    Args:
        pause: how many times its cost it is.
        cost: seconds that the work took, read before and after it. Processor time: where work is slow because others
            are busy, a pause as long as it would make it slower still.
        clock: seconds that only grow.
        sleep: waits for so many seconds.
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
        """Wait for the end of the pause, and count the cost of what is done here."""
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
