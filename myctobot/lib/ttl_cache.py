"""What many ask for and is dear to find out: found once, and told to all of them for a few seconds."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Remembered(Generic[T]):
    """Who asks while somebody else finds it out waits for that one's answer.

    Args:
        find: finds it out anew.
        for_s: how old an answer may be, in seconds.
        clock: seconds that only grow.
    """

    def __init__(self, find: Callable[[], T], for_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._find, self._for_s, self._clock = find, for_s, clock
        self._lock = threading.Lock()
        self._known: tuple[float, T] | None = None

    def __call__(self) -> T:
        """Return what was found at most ``for_s`` seconds ago; a failure is remembered by nobody."""
        with self._lock:
            if self._known is None or self._clock() >= self._known[0] + self._for_s:
                found = self._find()
                self._known = (self._clock(), found)
            return self._known[1]

    def forget(self) -> None:
        """Find it out anew the next time."""
        with self._lock:
            self._known = None
