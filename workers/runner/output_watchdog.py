"""Watchdog that ends an agent without output."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from myctobot.contract.jobs import EventKind
from workers.errors import JobError
from workers.runner.pausable_clock import MIN_WAIT_S, PausableClock

T = TypeVar("T")
Emit = Callable[[EventKind, dict[str, Any]], Awaitable[None]]


class OutputWatchdog:
    """Watchdog that sees every event of an agent.

    Args:
        clock: pauses while the agent is frozen, because a frozen agent cannot write.
        emit: receives each event.
        limit_s: allowed seconds without an event; None for no limit.
    """

    def __init__(self, clock: PausableClock, emit: Emit, limit_s: int | None) -> None:
        self._clock, self._emit, self._limit_s = clock, emit, limit_s
        self._last_output_at = clock.seconds()

    async def emit(self, kind: EventKind, data: dict[str, Any]) -> None:
        """Record the time of an event and pass it on."""
        self._last_output_at = self._clock.seconds()
        await self._emit(kind, data)
        # Waiting for the receiver does not count as the agent's silence.
        self._last_output_at = self._clock.seconds()

    async def watch(self, work: Coroutine[Any, Any, T], kill: Callable[[], Awaitable[object]]) -> T:
        """Run the agent and return its result.

        Args:
            work: coroutine that runs the agent.
            kill: kills the agent's processes.

        Raises:
            JobError: ``no_output``, the agent wrote nothing for too long and was ended.
        """
        if self._limit_s is None:
            return await work
        doing = asyncio.create_task(work)
        try:
            while not doing.done():
                left_s = self._limit_s - (self._clock.seconds() - self._last_output_at)
                if left_s <= 0:
                    await kill()
                    raise JobError(
                        "no_output",
                        f"The agent wrote nothing for {self._limit_s} s, its no_output_timeout_s, and was ended; "
                        "raise that limit or ask for less at once.",
                    )
                await asyncio.wait({doing}, timeout=max(left_s, MIN_WAIT_S))
            return await doing
        finally:
            doing.cancel()
            await asyncio.gather(doing, return_exceptions=True)
