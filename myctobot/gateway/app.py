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
from myctobot.gateway.call_input import CallInput, Message, Receive
from myctobot.gateway.errors import TYPES_BY_STATUS, GrantEnded, error_body, error_event
from myctobot.gateway.grant_watch import DEFAULT_INTERVAL_S, GrantWatch
from myctobot.gateway.grants import DatabaseGrants, GatewayGrant, GrantSource, LiveGrants, attempt_key
from myctobot.gateway.job_calls import BodyAllowance, JobCallLimits, JobCalls
from myctobot.gateway.parsing import BodyParser
from myctobot.gateway.policy import CallPolicy
from myctobot.gateway.sse import UsageReader
from myctobot.gateway.upstreams import build_upstream
from myctobot.gateway.upstreams.base import Upstream
from myctobot.web.response import RawResponse

Scope = dict[str, Any]
Send = Callable[[Message], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]

# Only these calls have a body, which their view reads.
MODEL_PATHS = frozenset({"/v1/messages", "/v1/messages/count_tokens"})
SCOPE_KEY = "myctobot.gateway.call"
log: structlog.stdlib.BoundLogger = structlog.get_logger("myctobot.gateway")


def new_request_id() -> str:
    return f"req_{uuid.uuid4().hex}"


@dataclass(frozen=True)
class Gateway:
    """Parts of the gateway that the views use."""

    grants: GrantSource
    upstream: Upstream
    policy: CallPolicy
    calls: JobCalls
    watch: GrantWatch
    parser: BodyParser

    async def close(self) -> None:
        await self.watch.stop()
        await self.upstream.close()
        self.parser.close()


def build_gateway(
    grants: GrantSource,
    live: LiveGrants,
    upstream: Upstream,
    *,
    policy: CallPolicy | None = None,
    limits: JobCallLimits | None = None,
    watch_interval_s: float = DEFAULT_INTERVAL_S,
) -> Gateway:
    """Connect the parts of a gateway.

    Args:
        grants: finds the grant of a token.
        live: finds the attempts whose grants have not ended.
        upstream: answers the calls.
        policy: what jobs may use; the default is for Claude Code.
        limits: on the calls of each attempt.
        watch_interval_s: seconds between two checks of the grants of open calls.
    """
    calls = JobCalls(limits or JobCallLimits())
    watch = GrantWatch(live, calls, watch_interval_s)
    return Gateway(grants, upstream, policy or CallPolicy(), calls, watch, BodyParser())


@dataclass
class GatewayCall:
    """One HTTP call from its first byte to its last. Views set the fields when they know them."""

    gateway: Gateway
    input: CallInput
    # Its contexts are closed when the call ends for any reason.
    stack: AsyncExitStack
    request_id: str = field(default_factory=new_request_id)
    started: float = field(default_factory=time.monotonic)
    grant: GatewayGrant | None = None
    model: str | None = None
    status: int | None = None
    finished: bool = False
    grant_ended: bool = False
    streams: bool = False
    usage: UsageReader = field(default_factory=UsageReader)

    def admit(self, grant: GatewayGrant) -> BodyAllowance:
        """Count the call of a valid token, and end it together with the grant.

        Raises:
            JobCallsExceeded: the job has too many open calls.
            CallQuotaReached: the attempt has made all its calls.
        """
        self.grant = grant
        allowance = self.stack.enter_context(self.gateway.calls.enter(grant))
        self.stack.enter_context(self.gateway.watch.watch(attempt_key(grant), self._end))
        return allowance

    def _end(self) -> None:
        self.grant_ended = True
        self.input.end()

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
        if self.grant_ended:
            return "grant_ended"
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
            is_model_call = scope["method"] == "POST" and scope["path"] in MODEL_PATHS
            call = GatewayCall(self._gateway, CallInput(receive, is_deferred=is_model_call), AsyncExitStack())
            try:
                await self._handle_call(call, scope, send)
            finally:
                if scope["path"] != "/healthz":
                    call.log_call(_printable(scope["path"]))
        else:
            await receive()
            await send({"type": "websocket.close", "code": 1003})

    async def _handle_call(self, call: GatewayCall, scope: Scope, send: Send) -> None:
        async def tracked_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                call.status = message["status"]
            await send(message)
            if message["type"] == "http.response.body" and not message.get("more_body", False):
                call.finished = True

        scope[SCOPE_KEY] = call
        async with call.stack:
            await self._django(scope, call.input.receive, tracked_send)
        # The upstream's call is closed by now, even if the client reads nothing.
        if call.grant_ended and not call.finished:
            await _send_grant_ended(call, tracked_send)

    async def _handle_lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                await send({"type": "lifespan.startup.complete"})
            elif message["type"] == "lifespan.shutdown":
                await self._gateway.close()
                await send({"type": "lifespan.shutdown.complete"})
                return


def gateway_from_settings(policy: CallPolicy, limits: JobCallLimits, watch_interval_s: float) -> Gateway:
    """Build the gateway that the settings describe. The arguments are those of ``build_gateway``.

    Raises:
        ScriptFileError: ``GATEWAY_SCRIPTS`` contains an invalid script.
    """
    # Import here, because models can be imported only after Django is set up.
    from jobs.attempts.gateway_grants import afind_grant, afind_live

    upstream = build_upstream(
        settings.GATEWAY_UPSTREAM, scripts=Path(settings.GATEWAY_SCRIPTS), anthropic_url=settings.ANTHROPIC_BASE_URL
    )
    grants = DatabaseGrants(afind_grant, afind_live)
    return build_gateway(
        grants,
        grants.live,
        upstream,
        policy=policy,
        limits=limits,
        watch_interval_s=watch_interval_s,
    )


async def _send_grant_ended(call: GatewayCall, send: Send) -> None:
    error = GrantEnded()
    if call.status is None:
        body = error_body(error.kind, error.message, call.request_id)
        await _raw_error(error.status, body, call.request_id, error.headers).send(send)
    else:
        # Headers with a length promise a document, which an event cannot complete.
        event = error_event(error.kind, error.message, call.request_id) if call.streams else b""
        await send({"type": "http.response.body", "body": event, "more_body": False})


def _raw_error(status: int, body: bytes, request_id: str, more: Mapping[str, str]) -> RawResponse:
    headers = {"content-type": "application/json", "request-id": request_id, **more}
    return RawResponse(status, [(name.encode(), value.encode()) for name, value in headers.items()], body)


def refused_body(_path: str, error: MyctobotError) -> RawResponse:
    """Return the response to a call whose body was refused before it reached the gateway."""
    request_id = new_request_id()
    body = error_body(TYPES_BY_STATUS[error.http_status], error.message, request_id)
    return _raw_error(error.http_status, body, request_id, {})


def _printable(path: str) -> str:
    return path[:200].encode("unicode_escape").decode()
