"""Clock that pauses while the agent is frozen, because an outage of the control plane must not use up a job's time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

# The time left does not change while the clock is paused. A minimum wait prevents a busy loop.
MIN_WAIT_S = 0.05


class PausableClock:
    """Clock that counts the seconds in which an attempt could run.

    Args:
        monotonic: source of the time; the shard's wall clock may be wrong or set back.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._started = monotonic()
        self._paused_s = 0.0
        self._paused_since: float | None = None

    def pause(self) -> None:
        """Pause the clock; a second call changes nothing."""
        if self._paused_since is None:
            self._paused_since = self._monotonic()

    def resume(self) -> None:
        """Continue after a pause; a call without a pause changes nothing."""
        if self._paused_since is not None:
            self._paused_s += self._monotonic() - self._paused_since
            self._paused_since = None

    def seconds(self) -> float:
        """Return the seconds since the clock was created, without its pauses."""
        now = self._monotonic() if self._paused_since is None else self._paused_since
        return now - self._started - self._paused_s


async def first_of(tasks: set[asyncio.Task[Any]], clock: PausableClock, timeout_s: float) -> set[asyncio.Task[Any]]:
    """Return the tasks that are done first, or none when the clock reaches ``timeout_s``."""
    while (left_s := timeout_s - clock.seconds()) > 0:
        # The clock may be paused during the wait. Then there is time left after it.
        wait_s = max(left_s, MIN_WAIT_S)
        done, _ = await asyncio.wait(tasks, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
        if done:
            return done
    return set()
