"""Calls that answer at once, in threads that live as long as the process.

Django gives each request a thread of its own, and several ways there and back. For a page that is nothing; for calls
that come hundreds of times a second it is most of the work.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from queue import Empty, SimpleQueue
from typing import Any, Final, NamedTuple, TypeVar, cast

from asgiref.typing import ASGIReceiveCallable, ASGISendCallable, HTTPScope
from django.core.handlers.asgi import ASGIRequest
from django.core.handlers.base import BaseHandler
from django.db import connection
from django.http import HttpResponse

from myctobot.contract.jobs import MAX_REQUEST_BYTES

# Each has one of the pool's connections while it works. More would only wait for each other.
THREADS: Final = 4

T = TypeVar("T")


class Threads:
    """A few threads for work with the database. Each keeps its connection while there is more to do.

    To give it back after each piece of work and to take it again would be a tenth of the work.
    """

    def __init__(self, count: int = THREADS) -> None:
        self._waiting: SimpleQueue[_Work] = SimpleQueue()
        for number in range(count):
            threading.Thread(target=self._serve, name=f"short-calls-{number}", daemon=True).start()

    async def run(self, work: Callable[..., T], *values: Any) -> T:
        """Do this in one of the threads, and wait for it."""
        loop = asyncio.get_running_loop()
        # The loop's own kind of future: one that threads share has a lock, and takes longer to make than it is waited.
        future: asyncio.Future[T] = loop.create_future()
        self._waiting.put(_Work(loop, future, work, values))
        return await future

    def _serve(self) -> None:
        while True:
            self._next().do()
            if connection.errors_occurred:
                connection.close()

    def _next(self) -> _Work:
        with suppress(Empty):
            return self._waiting.get_nowait()
        connection.close()
        return self._waiting.get()


class _Work(NamedTuple):
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]
    work: Callable[..., Any]
    values: tuple[Any, ...]

    def do(self) -> None:
        # Who asked may have gone meanwhile.
        if self.future.cancelled():
            return
        try:
            result, error = self.work(*self.values), None
        except BaseException as raised:  # noqa: BLE001  # whatever it is, it belongs to who asked
            result, error = None, raised
        # A loop that has ended waits for nothing any more.
        with suppress(RuntimeError):
            self.loop.call_soon_threadsafe(self._settle, result, error)

    def _settle(self, result: Any, error: BaseException | None) -> None:
        if self.future.done():
            return
        if error is None:
            self.future.set_result(result)
        else:
            self.future.set_exception(error)


@dataclass(frozen=True)
class Answer:
    """What is sent back."""

    status: int
    headers: Iterable[tuple[bytes, bytes]]
    body: bytes

    async def send(self, send: ASGISendCallable) -> None:
        headers = [*self.headers, (b"content-length", str(len(self.body)).encode())]
        await send({"type": "http.response.start", "status": self.status, "headers": headers, "trailers": False})
        await send({"type": "http.response.body", "body": self.body, "more_body": False})


async def read_body(receive: ASGIReceiveCallable, limit: int) -> bytes | None:
    """Read a body, of one that is longer its first ``limit + 1`` bytes; None when the caller went away."""
    body = b""
    while True:
        message: Any = await receive()
        if message["type"] != "http.request":
            return None
        piece: bytes = message.get("body", b"")
        body += piece
        # What follows is not waited for: it may have no end.
        if len(body) > limit or not message.get("more_body", False):
            return body[: limit + 1]


class ShortCalls:
    """Django's own handling of a request, with all its middleware, for views that neither stream nor wait.

    Args:
        threads: where.
    """

    def __init__(self, threads: Threads) -> None:
        self._threads, self._django = threads, BaseHandler()
        self._django.load_middleware()

    async def __call__(self, scope: HTTPScope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        body = await read_body(receive, MAX_REQUEST_BYTES)
        if body is not None:
            await (await self._threads.run(self.answer, scope, body)).send(send)

    def answer(self, scope: HTTPScope, body: bytes) -> Answer:
        """Do what a request asks for, in this thread."""
        # A body that came in pieces has no length in its headers, and is taken for none.
        others = [pair for pair in scope["headers"] if pair[0] not in (b"content-length", b"transfer-encoding")]
        scope = {**scope, "headers": [*others, (b"content-length", str(len(body)).encode())]}
        response = cast(HttpResponse, self._django.get_response(ASGIRequest(scope, BytesIO(body))))
        names = [(name.encode("ascii"), value.encode("latin-1")) for name, value in response.items()]
        cookies = [(b"Set-Cookie", morsel.OutputString().encode("ascii")) for morsel in response.cookies.values()]
        headers = [pair for pair in names if pair[0].lower() != b"content-length"]
        found = Answer(response.status_code, [*headers, *cookies], response.content)
        response.close()
        return found
