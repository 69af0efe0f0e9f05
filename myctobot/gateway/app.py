"""The gateway around Django: its parts, the limit on bodies, and one log line for each call."""

from __future__ import annotations

import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog
from django.conf import settings

from myctobot.gateway.errors import GatewayError, TooLarge, error_body
from myctobot.gateway.grants import DatabaseGrants, Grant, GrantSource
from myctobot.gateway.requests import MAX_BODY_BYTES
from myctobot.gateway.sse import UsageReader
from myctobot.gateway.upstreams import build_upstream
from myctobot.gateway.upstreams.base import Upstream

Scope = dict[str, Any]
Message = Mapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]

# So many times the limit is read of a body that is too large; then the line is cut.
DISCARD_TIMES = 4
SCOPE_KEY = "myctobot.gateway.call"
log: structlog.stdlib.BoundLogger = structlog.get_logger("myctobot.gateway")


@dataclass(frozen=True)
class Gateway:
    """What the views work with."""

    grants: GrantSource
    upstream: Upstream


@dataclass
class Call:
    """One HTTP call, from its first byte to its last; views fill in what they learn."""

    gateway: Gateway
    # What is left here is closed when the call has ended, however it ends.
    stack: AsyncExitStack
    request_id: str = field(default_factory=lambda: f"req_{uuid.uuid4().hex}")
    started: float = field(default_factory=time.monotonic)
    grant: Grant | None = None
    model: str | None = None
    status: int | None = None
    finished: bool = False
    usage: UsageReader = field(default_factory=UsageReader)

    def write_line(self, path: str) -> None:
        """Log the call: who, what and how long; never a prompt, a key or a token."""
        log.info(
            "gateway.call",
            request_id=self.request_id,
            path=path,
            job=self.grant.job_id if self.grant else None,
            attempt=self.grant.attempt if self.grant else None,
            upstream=self.gateway.upstream.name,
            model=self.model,
            status=self.status,
            duration_ms=round((time.monotonic() - self.started) * 1000),
            input_tokens=self.usage.usage.input_tokens,
            output_tokens=self.usage.usage.output_tokens,
            outcome=self._outcome(),
        )

    def _outcome(self) -> str:
        if not self.finished:
            return "disconnected"
        return self.usage.error or "answered"


class GatewayApp:
    """An ASGI application: ``django`` answers, this class holds what outlives a view."""

    def __init__(self, django: AsgiApp, gateway: Gateway, max_body_bytes: int = MAX_BODY_BYTES) -> None:
        self._django = django
        self._gateway = gateway
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http":
            async with AsyncExitStack() as stack:
                call = Call(self._gateway, stack)
                if scope["path"] != "/healthz":
                    stack.callback(call.write_line, _printable(scope["path"]))
                await self._answer(call, scope, receive, send)
        else:
            await receive()
            await send({"type": "websocket.close", "code": 1003})

    async def _answer(self, call: Call, scope: Scope, receive: Receive, send: Send) -> None:
        async def watching(message: Message) -> None:
            if message["type"] == "http.response.start":
                call.status = message["status"]
            await send(message)
            if message["type"] == "http.response.body" and not message.get("more_body", False):
                call.finished = True

        scope[SCOPE_KEY] = call
        body = _LimitedBody(receive, self._max_body_bytes)
        await self._django(scope, body, watching)
        if body.exceeded:
            await _refuse(TooLarge(), call, watching)

    async def _live(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                await send({"type": "lifespan.startup.complete"})
            elif message["type"] == "lifespan.shutdown":
                await self._gateway.upstream.close()
                await send({"type": "lifespan.shutdown.complete"})
                return


def gateway_from_settings() -> Gateway:
    """Build the gateway that the settings describe.

    Raises:
        PlayFileError: ``GATEWAY_PLAYS`` holds something that is not a play.
    """
    # Here, since models can be imported only after Django is set up.
    from jobs.attempts.gateway_grants import afind_grant

    upstream = build_upstream(
        settings.GATEWAY_UPSTREAM, plays=Path(settings.GATEWAY_PLAYS), anthropic_url=settings.ANTHROPIC_BASE_URL
    )
    return Gateway(DatabaseGrants(afind_grant), upstream)


class _LimitedBody:
    """Counts the body while it comes: Django itself would write any length of it to disk first.

    Beyond the limit Django is told that the client has gone, and ``exceeded`` is set.
    """

    def __init__(self, receive: Receive, most: int) -> None:
        self._receive = receive
        self._most = most
        self._seen = 0
        self.exceeded = False

    async def __call__(self) -> Message:
        message = await self._next()
        if self._seen <= self._most:
            return message
        self.exceeded = True
        # A client that still sends would not see the answer, so what is left is read and thrown away.
        while message.get("more_body", False) and self._seen <= self._most * DISCARD_TIMES:
            message = await self._next()
        return {"type": "http.disconnect"}

    async def _next(self) -> Message:
        message = await self._receive()
        self._seen += len(message.get("body", b""))
        return message


async def _refuse(error: GatewayError, call: Call, send: Send) -> None:
    body = error_body(error.kind, error.message, call.request_id)
    headers = {"content-type": "application/json", "content-length": str(len(body)), "request-id": call.request_id}
    # The request's body may not have been read to its end, so the connection cannot be used again.
    headers["connection"] = "close"
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": error.status, "headers": raw})
    await send({"type": "http.response.body", "body": body})


def _printable(path: str) -> str:
    return path[:200].encode("unicode_escape").decode()
