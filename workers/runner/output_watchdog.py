"""Ends an agent that says nothing for too long."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from myctobot.contract.jobs import EventKind
from workers.errors import JobError
from workers.runner.pausable_clock import LEAST_WAIT_S, AwakeClock

T = TypeVar("T")
Emit = Callable[[EventKind, dict[str, Any]], Awaitable[None]]


class SilenceWatch:
    """Hears every event of an agent on its way.

    Args:
        clock: stands still while the agent is frozen and can say nothing.
        emit: where the events go on to.
        limit_s: seconds of silence; None lets the agent be.
    """

    def __init__(self, clock: AwakeClock, emit: Emit, limit_s: int | None) -> None:
        self._clock, self._emit, self._limit_s = clock, emit, limit_s
        self._heard_at = clock.seconds()

    async def emit(self, kind: EventKind, data: dict[str, Any]) -> None:
        """Take note of an event, and pass it on."""
        self._heard_at = self._clock.seconds()
        await self._emit(kind, data)
        # Waiting for the event to be taken was not the agent's silence.
        self._heard_at = self._clock.seconds()

    async def over(self, work: Coroutine[Any, Any, T], kill: Callable[[], Awaitable[object]]) -> T:
        """Return what the work returns.

        Args:
            work: the agent's.
            kill: ends its processes.

        Raises:
            JobError: the agent said nothing for too long and was ended.
        """
        if self._limit_s is None:
            return await work
        doing = asyncio.create_task(work)
        try:
            while not doing.done():
                left_s = self._limit_s - (self._clock.seconds() - self._heard_at)
                if left_s <= 0:
                    await kill()
                    message = f"The agent said nothing for {self._limit_s} s, its no_output_timeout_s, and was ended."
                    raise JobError("no_output", message)
                await asyncio.wait({doing}, timeout=max(left_s, LEAST_WAIT_S))
            return await doing
        finally:
            doing.cancel()
            await asyncio.gather(doing, return_exceptions=True)
