"""Outermost layer of a process that serves HTTP: it bounds the size of each body and the time for it.

No other layer sees a body that is too large or does not end, so Django writes none to disk. Headers and silent
connections are bounded by the server (``myctobot.stack.http_server``), because they never reach an application.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final

import structlog
from asgiref.typing import ASGIReceiveCallable, ASGISendCallable

from myctobot.errors import MyctobotError, RequestTimeout, RequestTooLarge
from myctobot.web.body_limits import BodyLimits
from myctobot.web.response import RawResponse

# The server and the applications have different types for the three arguments.
_App = Callable[[Any, Any, Any], Any]
_Receive = Callable[[], Awaitable[Any]]
# Writes the response to a request whose path is the first argument.
ErrorWriter = Callable[[str, MyctobotError], RawResponse]

_DISCONNECT: Final = {"type": "http.disconnect"}
_MAX_DIGITS: Final = 18
_MAX_LOGGED_PATH: Final = 200
log = structlog.get_logger(__name__)


class BodyLimiter:
    """ASGI application that refuses bodies beyond a limit, and passes everything else on.

    Args:
        app: the application.
        limits: sizes by route.
        timeout_s: time for a whole body, from the end of the headers.
        write_error: makes the responses 413 and 408.
        has_method: tells whether the view of a path has a method; its arguments are the method and the path.
    """

    def __init__(
        self,
        app: _App,
        limits: BodyLimits,
        timeout_s: float,
        write_error: ErrorWriter,
        has_method: Callable[[str, str], bool] = lambda method, path: True,
    ) -> None:
        self._app, self._limits, self._timeout_s, self._write_error = app, limits, timeout_s, write_error
        self._has_method = has_method

    async def __call__(self, scope: Any, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        if scope["type"] != "http" or (length := declared_length(scope["headers"])) == 0:
            await self._app(scope, receive, send)
            return
        limit = self._limits.of_request(scope["method"], scope["path"])
        if limit == 0 and not self._has_method(scope["method"], scope["path"]):
            # Its view answers 405 and names the methods that it has, which says more than 413. The body is not read.
            await self._app(scope, _empty_body(), send)
            return
        if length is not None and length > limit:
            # The body is not read: an answer in time keeps a client from sending it.
            await self._refuse(RequestTooLarge(limit), scope, send)
            return
        body = _BoundedBody(receive, send, limit, self._timeout_s)
        await self._app(scope, body.receive, body.send)
        if body.error is not None and not body.answered:
            await self._refuse(body.error, scope, send)

    async def _refuse(self, error: MyctobotError, scope: Any, send: ASGISendCallable) -> None:
        path: str = scope["path"]
        log.info("http.body_refused", method=scope["method"], path=path[:_MAX_LOGGED_PATH], code=error.code)
        await self._write_error(path, error).send(send)


def declared_length(headers: Iterable[tuple[bytes, bytes]]) -> int | None:
    """Return the length of a body by the headers of HTTP/1.1: 0 without a body, None for one in chunks."""
    length: int | None = 0
    for name, value in headers:
        if name == b"content-length":
            # A longer or malformed number cannot be trusted, so the bytes are counted.
            length = int(value) if value.isdigit() and len(value) <= _MAX_DIGITS else None
        elif name == b"transfer-encoding":
            return None
    return length


def _empty_body() -> _Receive:
    """Return a channel that gives an empty body, and then waits until the answer has been sent."""
    messages = iter([{"type": "http.request", "body": b"", "more_body": False}])

    async def receive() -> Any:
        for message in messages:
            return message
        return await asyncio.get_running_loop().create_future()

    return receive


class _BoundedBody:
    """Channels of one request. Beyond a limit, the application gets a disconnect, and ``error`` is set."""

    def __init__(self, receive: ASGIReceiveCallable, send: ASGISendCallable, limit: int, timeout_s: float) -> None:
        self._receive, self._send = receive, send
        self._limit = self._remaining = limit
        self._timeout_s = timeout_s
        self._deadline = asyncio.get_running_loop().time() + timeout_s
        self._ended = False
        self.answered = False
        self.error: MyctobotError | None = None

    async def receive(self) -> Any:
        if self._ended:
            return await self._receive()
        if self.error is not None:
            return _DISCONNECT
        try:
            async with asyncio.timeout_at(self._deadline):
                message: Any = await self._receive()
        except TimeoutError:
            self.error = RequestTimeout(self._timeout_s)
            return _DISCONNECT
        self._remaining -= len(message.get("body", b""))
        if self._remaining < 0:
            self.error = RequestTooLarge(self._limit)
            return _DISCONNECT
        self._ended = not message.get("more_body", False)
        return message

    async def send(self, message: Any) -> None:
        # The refusal replaces what the application makes of the disconnect.
        if self.error is None or self.answered:
            self.answered = True
            await self._send(message)
