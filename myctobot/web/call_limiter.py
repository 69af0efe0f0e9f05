"""Layer in front of all views: it limits calls by key, tenant and address, and lets tenants take turns.

A turn lasts from the start of a view to its end, also if the client disconnects before, because the view's thread and
database connection are then still in use. A complete response is sent after the turn, so that a client that does not
read it holds neither. A streamed response ends the turn with its headers. Each process counts for itself.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from typing import Any, Final, Protocol

import structlog
from asgiref.typing import ASGIReceiveCallable, ASGISendCallable

from myctobot.errors import MyctobotError, RateLimited, TooManyCalls
from myctobot.lib.addresses import address_key, client_address
from myctobot.web.call_limits import Account, CallLimits, CallSource, quota_headers
from myctobot.web.fair_turns import Bound, Call, CallRefusal, FairTurns
from myctobot.web.response import RawResponse, read_body

_App = Callable[[Any, Any, Any], Any]
# A larger response is sent while its view is carried out. No view of the APIs makes one.
MAX_COMPLETE_BYTES: Final = 4 * 1024 * 1024
# Most calls wait for less time. Only after it starts a task that notices a client's end, because it costs a tenth of a
# call.
UNWATCHED_S: Final = 2.0
# Close code of WebSockets for "try again later" (RFC 6455, registered with IANA).
_TRY_AGAIN: Final = 1013
_LOG_EVERY_S: Final = 10.0
log = structlog.get_logger(__name__)


class CallerFinder(Protocol):
    """Finds the accounts of known callers."""

    def credentials_of(self, scope: Any) -> Any:
        """Return the credentials of a call, which can be compared and hashed; None if it has none."""

    def known(self, credentials: Any) -> CallSource | None:
        """Return the accounts of credentials that were found before."""

    async def find(self, credentials: Any) -> CallSource | None:
        """Return the accounts of credentials, or None if they are not valid."""


class CallLimiter:
    """ASGI application that carries out a limited number of calls at a time, and refuses the others.

    Args:
        app: the application.
        limits: of this process.
        write_error: makes the response to a refused call, by its path.
        finder: finds callers; None if all callers are strangers.
        streams: paths whose responses are streams.
        behind_proxy: a reverse proxy passes the addresses of clients on.
    """

    def __init__(
        self,
        app: _App,
        limits: CallLimits,
        write_error: Callable[[str, MyctobotError], RawResponse],
        *,
        finder: CallerFinder | None = None,
        streams: re.Pattern[str] | None = None,
        behind_proxy: bool = False,
    ) -> None:
        self._app, self._limits, self._write_error = app, limits, write_error
        self._finder, self._streams, self._behind_proxy = finder, streams, behind_proxy
        self._turns = FairTurns(limits.concurrent)
        self._lookups: dict[Any, asyncio.Task[CallSource | None]] = {}
        self._refused, self._logged_at = 0, -_LOG_EVERY_S

    async def __call__(self, scope: Any, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._websocket(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _http(self, scope: Any, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        is_stream = self._streams is not None and self._streams.fullmatch(scope["path"]) is not None
        call, refusal = await self._arrive(scope, is_stream)
        if refusal is not None:
            await self._refuse(scope, call, refusal, send)
            return
        try:
            # A slow body must not use a turn.
            body = await read_body(receive)
            if body is None:
                return
            self._turns.hold(call, len(body))
            exchange = _Exchange(body, receive, send, self._turns, call, self._headers(scope, call))
            if not await self._wait(call, exchange):
                if not exchange.is_disconnected:
                    await self._refuse(scope, call, CallRefusal(Bound.CALLS, call.source.member.limits), send)
                return
            await self._app(scope, exchange.receive, exchange.send)
            self._turns.end_turn(call)
            await exchange.deliver()
        finally:
            self._turns.leave(call)

    async def _websocket(self, scope: Any, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        call, refusal = await self._arrive(scope, is_stream=True)
        if refusal is None:
            try:
                await self._app(scope, receive, send)
            finally:
                self._turns.leave(call)
        elif (await receive())["type"] == "websocket.connect":
            self._log(refusal)
            # Browsers do not show the reason of a refused handshake.
            await send({"type": "websocket.accept", "subprotocol": None, "headers": []})
            await send({"type": "websocket.close", "code": _TRY_AGAIN, "reason": _error_of(refusal).message[:120]})

    async def _arrive(self, scope: Any, is_stream: bool) -> tuple[Call, CallRefusal | None]:
        """Count a call for its caller, or for its address if the caller is unknown."""
        source: CallSource | None = None
        if self._finder is not None and (credentials := self._finder.credentials_of(scope)) is not None:
            source = self._finder.known(credentials)
            if source is None:
                search = Call(self._of_address("search", scope), _no_turn)
                source, refusal = await self._look_up(self._finder, credentials, search)
                if refusal is not None:
                    return search, refusal
        if source is None:
            source = self._of_address("address", scope)
        call = Call(source, _no_turn, is_stream)
        return call, self._turns.arrive(call, time.monotonic())

    async def _look_up(
        self, finder: CallerFinder, credentials: Any, search: Call
    ) -> tuple[CallSource | None, CallRefusal | None]:
        """Find a caller; calls with the same credentials share one search, which counts for the first address."""
        task = self._lookups.get(credentials)
        if task is not None:
            return await asyncio.shield(task), None
        if refusal := self._turns.arrive(search, time.monotonic()):
            return None, refusal
        task = self._lookups[credentials] = asyncio.ensure_future(finder.find(credentials))
        try:
            return await asyncio.shield(task), None
        finally:
            self._lookups.pop(credentials, None)
            self._turns.leave(search)

    def _of_address(self, purpose: str, scope: Any) -> CallSource:
        """Return the accounts of an address, which are separate for each purpose."""
        peer = scope["client"][0] if scope.get("client") else None
        given = b",".join(value for name, value in scope["headers"] if name == b"x-forwarded-for").decode("latin-1")
        address = address_key(client_address(peer, given, behind_proxy=self._behind_proxy))
        own = Account(f"{purpose}:{address}", self._limits.address)
        return CallSource(own, Account(f"every {purpose}", self._limits.strangers))

    async def _wait(self, call: Call, exchange: _Exchange) -> bool:
        """Wait for the turn of a call; false if it did not come in time, or the client has disconnected."""
        self._turns.request_turn(call)
        unwatched_s = min(UNWATCHED_S, self._limits.wait_s)
        if not call.has_turn:
            await _turn_within(call, unwatched_s)
        if not call.has_turn and self._limits.wait_s > unwatched_s:
            watcher = asyncio.ensure_future(exchange.watch())
            watcher.add_done_callback(lambda _: call.on_turn())
            try:
                await _turn_within(call, self._limits.wait_s - unwatched_s)
            finally:
                watcher.cancel()
        return call.has_turn

    def _headers(self, scope: Any, call: Call) -> list[tuple[bytes, bytes]]:
        if not scope["path"].startswith("/api/"):
            return []
        return quota_headers(self._turns.quotas(call.source, time.monotonic()))

    async def _refuse(self, scope: Any, call: Call, refusal: CallRefusal, send: ASGISendCallable) -> None:
        self._log(refusal)
        found = self._write_error(scope["path"], _error_of(refusal))
        retry = (b"retry-after", str(refusal.retry_after_s).encode())
        headers = [*found.headers, retry, *quota_headers(self._turns.quotas(call.source, time.monotonic()))]
        await RawResponse(found.status, headers, found.body).send(send)

    def _log(self, refusal: CallRefusal) -> None:
        """Log refusals, but not each one, because a caller decides on their number."""
        self._refused += 1
        now = time.monotonic()
        if now - self._logged_at >= _LOG_EVERY_S:
            log.warning("calls.refused", count=self._refused, last=refusal.limits.name, bound=refusal.bound.name)
            self._refused, self._logged_at = 0, now


async def _turn_within(call: Call, seconds: float) -> None:
    """Wait until a call gets its turn or ``on_turn`` is called for another reason, but not longer."""
    loop = asyncio.get_running_loop()
    turn: asyncio.Future[None] = loop.create_future()
    call.on_turn = lambda: None if turn.done() else turn.set_result(None)
    # A timer is several times cheaper than ``asyncio.wait``.
    timer = loop.call_later(seconds, call.on_turn)
    try:
        await turn
    finally:
        timer.cancel()


def _no_turn() -> None:
    """Do nothing: the call has not begun to wait."""


def _error_of(refusal: CallRefusal) -> TooManyCalls:
    limits = refusal.limits
    if not limits.is_own:
        return TooManyCalls("Callers without a valid key make too many calls now. Send a key, or try again later.")
    if refusal.bound is Bound.PER_MINUTE:
        return RateLimited(
            f"This {limits.name} may make {limits.per_minute} calls in a minute. Wait {refusal.retry_after_s} s."
        )
    if refusal.bound is Bound.STREAMS:
        return TooManyCalls(f"This {limits.name} may have {limits.streams} open streams. Close some of them.")
    if refusal.bound is Bound.BYTES:
        return TooManyCalls(f"This {limits.name} has not read the responses to its earlier calls. Read them first.")
    return TooManyCalls(
        f"Of this {limits.name}, {limits.concurrent} calls are carried out at the same time and {limits.waiting} can "
        "wait, for a limited time. Make fewer calls at the same time."
    )


class _Exchange:
    """Channels of one call."""

    def __init__(
        self,
        body: bytes,
        receive: ASGIReceiveCallable,
        send: ASGISendCallable,
        turns: FairTurns,
        call: Call,
        headers: list[tuple[bytes, bytes]],
    ) -> None:
        self._body: bytes | None = body
        self._receive, self._send = receive, send
        self._turns, self._call, self._headers = turns, call, headers
        self._streams = asyncio.Event()
        self._messages: list[Any] = []
        self._early: Any = None

    @property
    def is_disconnected(self) -> bool:
        return self._early is not None

    async def watch(self) -> None:
        """Wait until the client disconnects. The body was read, so no other message can come."""
        self._early = await self._receive()

    async def receive(self) -> Any:
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        message = self._early or await self._receive()
        # Django would cancel the view, which cannot be cancelled in its thread: the event loop would wait for it.
        await self._streams.wait()
        return message

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message["headers"], *self._headers]}
            size = _length_of(message["headers"])
            if size is None or size > MAX_COMPLETE_BYTES:
                self._streams.set()
                self._turns.end_turn(self._call)
        if self._streams.is_set():
            await self._send(message)
        else:
            self._turns.hold(self._call, len(message.get("body", b"")))
            self._messages.append(message)

    async def deliver(self) -> None:
        """Send a complete response."""
        for message in self._messages:
            await self._send(message)


def _length_of(headers: list[tuple[bytes, bytes]]) -> int | None:
    return next((int(value) for name, value in headers if name.lower() == b"content-length"), None)
