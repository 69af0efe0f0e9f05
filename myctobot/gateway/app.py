"""ASGI application of the gateway around Django: its parts, and one log line for each call."""

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

from myctobot.errors import MyctobotError
from myctobot.gateway.errors import TYPES_BY_STATUS, error_body
from myctobot.gateway.grants import DatabaseGrants, GatewayGrant, GrantSource
from myctobot.gateway.sse import UsageReader
from myctobot.gateway.upstreams import build_upstream
from myctobot.gateway.upstreams.base import Upstream
from myctobot.web.response import RawResponse

Scope = dict[str, Any]
Message = Mapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]

SCOPE_KEY = "myctobot.gateway.call"
log: structlog.stdlib.BoundLogger = structlog.get_logger("myctobot.gateway")


def new_request_id() -> str:
    return f"req_{uuid.uuid4().hex}"


@dataclass(frozen=True)
class Gateway:
    """Parts of the gateway that the views use."""

    grants: GrantSource
    upstream: Upstream


@dataclass
class GatewayCall:
    """One HTTP call from its first byte to its last. Views set the fields when they know them."""

    gateway: Gateway
    # Its contexts are closed when the call ends for any reason.
    stack: AsyncExitStack
    request_id: str = field(default_factory=new_request_id)
    started: float = field(default_factory=time.monotonic)
    grant: GatewayGrant | None = None
    model: str | None = None
    status: int | None = None
    finished: bool = False
    usage: UsageReader = field(default_factory=UsageReader)

    def log_call(self, path: str) -> None:
        """Log the caller, the model and the duration of the call, but never a prompt, a key or a token."""
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
    """ASGI application: ``django`` answers, and this class owns everything that lives longer than a view."""

    def __init__(self, django: AsgiApp, gateway: Gateway) -> None:
        self._django = django
        self._gateway = gateway

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._handle_lifespan(receive, send)
        elif scope["type"] == "http":
            async with AsyncExitStack() as stack:
                call = GatewayCall(self._gateway, stack)
                if scope["path"] != "/healthz":
                    stack.callback(call.log_call, _printable(scope["path"]))
                await self._handle_call(call, scope, receive, send)
        else:
            await receive()
            await send({"type": "websocket.close", "code": 1003})

    async def _handle_call(self, call: GatewayCall, scope: Scope, receive: Receive, send: Send) -> None:
        async def tracked_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                call.status = message["status"]
            await send(message)
            if message["type"] == "http.response.body" and not message.get("more_body", False):
                call.finished = True

        scope[SCOPE_KEY] = call
        await self._django(scope, receive, tracked_send)

    async def _handle_lifespan(self, receive: Receive, send: Send) -> None:
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
        ScriptFileError: ``GATEWAY_SCRIPTS`` contains an invalid script.
    """
    # Import here, because models can be imported only after Django is set up.
    from jobs.attempts.gateway_grants import afind_grant

    upstream = build_upstream(
        settings.GATEWAY_UPSTREAM, scripts=Path(settings.GATEWAY_SCRIPTS), anthropic_url=settings.ANTHROPIC_BASE_URL
    )
    return Gateway(DatabaseGrants(afind_grant), upstream)


def refused_body(_path: str, error: MyctobotError) -> RawResponse:
    """Return the response to a call whose body was refused before it reached the gateway."""
    request_id = new_request_id()
    kind = TYPES_BY_STATUS[error.http_status]
    headers = [(b"content-type", b"application/json"), (b"request-id", request_id.encode())]
    return RawResponse(error.http_status, headers, error_body(kind, error.message, request_id))


def _printable(path: str) -> str:
    return path[:200].encode("unicode_escape").decode()
