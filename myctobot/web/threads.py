"""Threads that run short requests.

Django starts a thread for each request and switches between thread and event loop several times. This is cheap for a
page, but it is most of the work for a call that comes hundreds of times a second.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, Final, NamedTuple, TypeVar

from django.db import DEFAULT_DB_ALIAS, connection, connections

from myctobot.lib.postgres.connection import connection_class

# Each busy thread uses a database connection. Half as many threads make jobs a tenth slower, because PostgreSQL then
# commits fewer changes at once.
THREADS: Final = 8

T = TypeVar("T")


class RequestThreads:
    """A few threads for work with the database.

    A thread keeps its database connection until its queue is empty, because returning and taking a connection costs a
    tenth of a request.

    Args:
        count: number of threads.
        pool: name of a pool of as many connections that only threads with this name use; None for the common pool.
        statement_timeout_s: limit on each statement in that pool; None for the limit of the common one.
    """

    def __init__(
        self, count: int = THREADS, *, pool: str | None = None, statement_timeout_s: float | None = None
    ) -> None:
        self._queue: SimpleQueue[_Call] = SimpleQueue()
        self._count, self._pool, self._statement_timeout_s = count, pool, statement_timeout_s
        for number in range(count):
            threading.Thread(target=self._serve, name=f"short-calls-{number}", daemon=True).start()

    async def run(self, function: Callable[..., T], *values: Any) -> T:
        """Call a function in one of the threads, and return its result or raise its error."""
        loop = asyncio.get_running_loop()
        # A future of the loop needs no lock, unlike one of concurrent.futures, and is faster to make.
        future: asyncio.Future[T] = loop.create_future()
        self._queue.put(_Call(loop, future, function, values))
        return await future

    def _serve(self) -> None:
        call = self._queue.get()
        # Only now, because the threads of a module may start before the settings of a test.
        if self._pool is not None:
            _use_pool(self._pool, self._count, self._statement_timeout_s)
        while True:
            call.run()
            if connection.errors_occurred:
                connection.close()
            call = self._next_call()

    def _next_call(self) -> _Call:
        with suppress(Empty):
            return self._queue.get_nowait()
        connection.close()
        return self._queue.get()


def _use_pool(name: str, size: int, statement_timeout_s: float | None) -> None:
    """Give the current thread a connection from a pool of its own. Django has one pool for each alias."""
    own = connections[DEFAULT_DB_ALIAS].copy(name)
    if pool := own.settings_dict["OPTIONS"].get("pool"):
        limited = {} if statement_timeout_s is None else {"connection_class": connection_class(statement_timeout_s)}
        own.settings_dict["OPTIONS"]["pool"] = {**pool, **limited, "max_size": size}
    # Django's signals find a connection by its alias.
    connections[name] = connections[DEFAULT_DB_ALIAS] = own


class _Call(NamedTuple):
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]
    function: Callable[..., Any]
    values: tuple[Any, ...]

    def run(self) -> None:
        # The client may have disconnected.
        if self.future.cancelled():
            return
        try:
            result, error = self.function(*self.values), None
        except BaseException as raised:  # noqa: BLE001  # the caller gets every error
            result, error = None, raised
        # A closed loop has no one who waits.
        with suppress(RuntimeError):
            self.loop.call_soon_threadsafe(self._settle, result, error)

    def _settle(self, result: Any, error: BaseException | None) -> None:
        if self.future.done():
            return
        if error is None:
            self.future.set_result(result)
        else:
            self.future.set_exception(error)
