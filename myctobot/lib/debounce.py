"""Debouncer: one call for many requests at almost the same time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class Debouncer:
    """Merges requests at almost the same time into one call; the first request calls at once.

    Args:
        callback: called after the requests that it serves; a callback that has started serves no later request.
        interval_s: minimum number of seconds between two calls.
        clock: monotonic seconds.
    """

    def __init__(
        self, callback: Callable[[], None], interval_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._callback, self._interval_s, self._clock = callback, interval_s, clock
        self._lock = threading.Lock()
        self._next_call_at = float("-inf")

    def trigger(self) -> None:
        """Call now, or soon in a thread of its own."""
        now = self._clock()
        with self._lock:
            if now < self._next_call_at:
                return
            self._next_call_at = max(now, self._next_call_at + self._interval_s)
            wait_s = self._next_call_at - now
        if wait_s <= 0:
            self._callback()
            return
        timer = threading.Timer(wait_s, self._callback)
        # A daemon thread does not delay the end of the process; beat repeats the request.
        timer.daemon = True
        timer.start()
