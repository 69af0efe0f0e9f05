"""Decision about scheduled tasks whose message has expired; pure."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

# A task that started within this time needs no further message.
RECENT_S: Final = 10.0


class ExpiredTasks:
    """Decision whether an expired message of a task runs.

    A worker that is slower than the schedule finds every message expired, and would discard all of them. So one that
    has expired runs if its task has not started for a while.

    Args:
        clock: returns monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._started: dict[str, float] = {}

    def note_start(self, task: str) -> None:
        self._started[task] = self._clock()

    def keeps(self, task: str) -> bool:
        """Return True if an expired message of the task runs; the task then counts as started."""
        started = self._started.get(task)
        if started is not None and self._clock() - started < RECENT_S:
            return False
        self.note_start(task)
        return True
