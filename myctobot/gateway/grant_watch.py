"""Watch over the grants of open calls: it ends a call soon after its job has ended, was cancelled or lost its lease.

One query per round checks all attempts with open calls, independent of the number of their calls.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import structlog
from django.db import Error as DatabaseError

from myctobot.contract.limits import LEASE_S
from myctobot.gateway.grants import AttemptKey, LiveGrants
from myctobot.gateway.job_calls import JobCalls

DEFAULT_INTERVAL_S: Final = 2.0
# Attempts without an open call are checked only to drop their counters.
_ROUNDS_PER_CLEANING: Final = 30
log = structlog.get_logger(__name__)


class GrantWatch:
    """Watcher of one process. It runs while calls are open.

    Args:
        live: returns those of some attempts whose grants are valid.
        calls: counters, which end with their attempts.
        interval_s: seconds between two rounds.
    """

    def __init__(self, live: LiveGrants, calls: JobCalls, interval_s: float = DEFAULT_INTERVAL_S) -> None:
        self._live, self._calls, self._interval_s = live, calls, interval_s
        self._open: dict[AttemptKey, list[Callable[[], None]]] = {}
        self._task: asyncio.Task[None] | None = None
        self._rounds = 0
        self._checked_at = 0.0

    @contextmanager
    def watch(self, key: AttemptKey, end: Callable[[], None]) -> Iterator[None]:
        """Call ``end`` when the grant of an attempt ends within the context."""
        if not self._open:
            self._checked_at = asyncio.get_running_loop().time()
        self._open.setdefault(key, []).append(end)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())
        try:
            yield
        finally:
            ends = self._open[key]
            ends.remove(end)
            if not ends:
                del self._open[key]

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    async def check(self) -> None:
        """Run one round."""
        cleaning = self._rounds % _ROUNDS_PER_CLEANING == 0
        self._rounds += 1
        keys = frozenset(self._open) | (self._calls.attempts() if cleaning else frozenset())
        started = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(LEASE_S / 2):
                live = await self._live(keys)
        except (DatabaseError, TimeoutError):
            log.warning("gateway.grants_unchecked", exc_info=True)
            # Without an answer for a whole lease, no lease that was read before can still hold.
            if started - self._checked_at > LEASE_S:
                self._end(frozenset(self._open))
            return
        self._checked_at = started
        ended = keys - live
        self._end(ended)
        self._calls.forget(ended)

    async def _run(self) -> None:
        try:
            while self._open:
                await asyncio.sleep(self._interval_s)
                await self.check()
        finally:
            # Open calls must not continue without a watch.
            self._end(frozenset(self._open))

    def _end(self, keys: frozenset[AttemptKey]) -> None:
        for key in keys:
            for end in self._open.get(key, ()):
                end()
