"""Parsing of bodies in threads, with fair turns between jobs.

One job parses one body at a time, and waiting jobs take turns, so that large bodies of one job do not delay others.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

DEFAULT_THREADS: Final = 2

T = TypeVar("T")


class PermitTurns:
    """Permits of a limited number. Each key holds at most one, and keys that wait get one in turn.

    Args:
        total: maximum number of permits.
    """

    def __init__(self, total: int) -> None:
        self._free = total
        self._active: set[Hashable] = set()
        self._waiting: OrderedDict[Hashable, deque[asyncio.Future[None]]] = OrderedDict()

    async def acquire(self, key: Hashable) -> None:
        """Wait for a permit. A cancelled wait takes none."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(key, deque()).append(turn)
        self._grant()
        try:
            await turn
        except asyncio.CancelledError:
            # The permit may have come together with the cancellation.
            if turn.done() and not turn.cancelled():
                self.release(key)
            raise

    def release(self, key: Hashable) -> None:
        self._free += 1
        self._active.remove(key)
        if key in self._waiting:
            self._waiting.move_to_end(key)
        self._grant()

    def _grant(self) -> None:
        while self._free and (key := self._next_key()) is not None:
            queue = self._waiting.pop(key)
            turn = queue.popleft()
            # A key that waits further goes to the end of the line.
            if queue:
                self._waiting[key] = queue
            if not turn.cancelled():
                self._free -= 1
                self._active.add(key)
                turn.set_result(None)

    def _next_key(self) -> Hashable | None:
        return next((key for key in self._waiting if key not in self._active), None)


class BodyParser:
    """Threads that parse bodies.

    Args:
        threads: number of bodies at the same time.
    """

    def __init__(self, threads: int = DEFAULT_THREADS) -> None:
        self._turns = PermitTurns(threads)
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="gateway-parse")

    async def run(self, key: Hashable, parse: Callable[[bytes], T], body: bytes) -> T:
        """Return ``parse(body)``, or raise its error. ``key`` is the job, which has one body at a time."""
        await self._turns.acquire(key)
        work = asyncio.get_running_loop().run_in_executor(self._threads, parse, body)
        work.add_done_callback(lambda done: self._finish(key, done))
        # The thread continues when the call is cancelled, so only its end gives the permit back.
        return await asyncio.shield(work)

    def _finish(self, key: Hashable, work: asyncio.Future[Any]) -> None:
        self._turns.release(key)
        if not work.cancelled():
            # A cancelled call does not read the error, which would be logged as lost.
            work.exception()

    def close(self) -> None:
        self._threads.shutdown(wait=False)
