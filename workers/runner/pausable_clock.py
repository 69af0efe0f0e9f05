"""A clock that stands still while the agent is frozen: an outage of the control plane is not the job's time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

# While the clock stands still, what is left does not become less: whoever waits for it waits so long at least.
LEAST_WAIT_S = 0.05


class AwakeClock:
    """Counts the seconds that an attempt could use.

    Args:
        monotonic: where the time comes from; the shard's wall clock may be wrong, or set back.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._started = monotonic()
        self._asleep_s = 0.0
        self._asleep_since: float | None = None

    def sleep(self) -> None:
        """Stand still; doing so twice is the same as once."""
        if self._asleep_since is None:
            self._asleep_since = self._monotonic()

    def wake(self) -> None:
        """Go on."""
        if self._asleep_since is not None:
            self._asleep_s += self._monotonic() - self._asleep_since
            self._asleep_since = None

    def seconds(self) -> float:
        """Since it was made, less the time in which it stood still."""
        now = self._monotonic() if self._asleep_since is None else self._asleep_since
        return now - self._started - self._asleep_s


async def first_of(tasks: set[asyncio.Task[Any]], clock: AwakeClock, timeout_s: float) -> set[asyncio.Task[Any]]:
    """Wait for the first of them, or until the clock has counted so many seconds; then none is returned."""
    while (left_s := timeout_s - clock.seconds()) > 0:
        # The clock may stand still meanwhile: then there is time left afterwards.
        wait_s = max(left_s, LEAST_WAIT_S)
        done, _ = await asyncio.wait(tasks, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
        if done:
            return done
    return set()
