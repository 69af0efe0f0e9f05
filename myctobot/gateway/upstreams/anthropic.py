"""Upstream that passes calls on to Anthropic's API with the tenant's key instead of the job's token."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from http.cookiejar import CookieJar, DefaultCookiePolicy

import httpx

from myctobot.gateway.errors import (
    TYPES_BY_STATUS,
    BrokenUpstream,
    GatewayError,
    GatewayNotAuthenticated,
    NoProviderKey,
    Overloaded,
    UpstreamTimeout,
    error_body,
    error_event,
)
from myctobot.gateway.sse import UsageReader, WholeEvents
from myctobot.gateway.upstreams.base import UpstreamCall, UpstreamResponse

PATHS = {"messages": "/v1/messages", "count_tokens": "/v1/messages/count_tokens"}
# Only these headers of the caller are passed on. The token and cookies must not leave the gateway.
REQUEST_HEADERS = ("anthropic-version", "anthropic-beta", "content-type", "accept")
DEFAULT_VERSION = "2023-06-01"
RESPONSE_HEADERS = frozenset({"content-type", "request-id", "retry-after", "x-should-retry"})
RESPONSE_HEADER_PREFIX = "anthropic-ratelimit-"
MAX_ERROR_BYTES = 64 * 1024
MAX_DOCUMENT_BYTES = 64 * 1024 * 1024
# In one piece, encryption would hold the event loop, and each layer below would keep a copy of the body.
PIECE_BYTES = 256 * 1024


@dataclass(frozen=True)
class UpstreamLimits:
    """Timeouts in seconds, and the maximum number of connections.

    ``read_s`` applies between two pieces of a response. A long response that does not stream comes in one piece.
    """

    connect_s: float = 10
    read_s: float = 600
    write_s: float = 60
    pool_s: float = 10
    connections: int = 500


class AnthropicUpstream:
    name = "anthropic"

    def __init__(self, base_url: str, limits: UpstreamLimits | None = None) -> None:
        limits = limits or UpstreamLimits()
        self._base_url = base_url.rstrip("/")
        self._client = httpx.AsyncClient(
            timeout=httpx.Timeout(
                connect=limits.connect_s, read=limits.read_s, write=limits.write_s, pool=limits.pool_s
            ),
            limits=httpx.Limits(max_connections=limits.connections, max_keepalive_connections=50),
            follow_redirects=False,
            # Proxies of the environment and .netrc must not decide where keys are sent.
            trust_env=False,
            # A cookie from one tenant's response must not be sent with another tenant's request.
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
            # Override the default headers of the client library, such as its version.
            headers={"user-agent": "myctobot-gateway", "accept-encoding": "identity"},
        )

    @asynccontextmanager
    async def respond(self, call: UpstreamCall) -> AsyncIterator[UpstreamResponse]:
        key = _check_key(await call.key())
        request = self._client.build_request(
            "POST",
            self._base_url + PATHS[call.endpoint],
            params={"beta": "true"} if call.beta else None,
            headers={
                **_request_headers(call.headers),
                "x-api-key": key,
                "content-length": str(len(call.request.body)),
            },
            content=_pieces(call.request.body),
        )
        with _translated():
            response = await self._client.send(request, stream=True)
        try:
            yield await _read_response(response, call, key)
        finally:
            await response.aclose()

    async def close(self) -> None:
        await self._client.aclose()


async def _pieces(body: bytes) -> AsyncIterator[bytes]:
    view = memoryview(body)
    for start in range(0, len(body), PIECE_BYTES):
        yield bytes(view[start : start + PIECE_BYTES])


def _check_key(key: str | None) -> str:
    if not key:
        raise NoProviderKey
    if not key.isascii() or not key.isprintable() or " " in key:
        raise GatewayNotAuthenticated("anthropic_api_key: contains characters that no key has; store the key again")
    return key


def _request_headers(headers: Mapping[str, str]) -> dict[str, str]:
    chosen = {name: headers[name] for name in REQUEST_HEADERS if name in headers}
    return {"anthropic-version": DEFAULT_VERSION, "content-type": "application/json", **chosen}


async def _read_response(response: httpx.Response, call: UpstreamCall, key: str) -> UpstreamResponse:
    if 300 <= response.status_code < 400:
        raise BrokenUpstream(
            "The upstream sent a redirect, which the gateway does not follow. Check ANTHROPIC_BASE_URL."
        )
    headers = {
        name: value
        for name, value in response.headers.items()
        if name in RESPONSE_HEADERS or name.startswith(RESPONSE_HEADER_PREFIX)
    }
    headers.setdefault("request-id", call.request_id)
    if response.status_code >= 400:
        raw = await _read_body(response, MAX_ERROR_BYTES)
        body = _to_anthropic_error(response.status_code, raw, headers["request-id"], key)
        headers["content-type"] = "application/json"
        return UpstreamResponse(response.status_code, headers, _once(body), streams=False)
    usage = UsageReader()
    if headers.get("content-type", "").startswith("text/event-stream"):
        return UpstreamResponse(
            response.status_code, headers, _stream(response, usage, headers["request-id"]), True, usage
        )
    document = await _read_body(response, MAX_DOCUMENT_BYTES)
    usage.feed_document(document)
    return UpstreamResponse(response.status_code, headers, _once(document), False, usage)


def _to_anthropic_error(status: int, body: bytes, request_id: str, key: str) -> bytes:
    """Return the error in Anthropic's format without the key."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        document = None
    if isinstance(document, dict) and document.get("type") == "error" and isinstance(document.get("error"), dict):
        return body.replace(key.encode(), b"[anthropic_api_key]")
    kind = TYPES_BY_STATUS.get(status, "api_error")
    return error_body(kind, f"The upstream answered with status {status} without an explanation.", request_id)


async def _read_body(response: httpx.Response, maximum: int) -> bytes:
    body = bytearray()
    with _translated():
        async for piece in response.aiter_bytes():
            body += piece
            if len(body) > maximum:
                raise BrokenUpstream(f"The upstream's response is larger than {maximum} bytes.")
    return bytes(body)


async def _stream(response: httpx.Response, usage: UsageReader, request_id: str) -> AsyncIterator[bytes]:
    events = WholeEvents()
    try:
        with _translated():
            async for piece in response.aiter_bytes():
                if whole := events.feed(piece):
                    usage.feed_stream(whole)
                    yield whole
        # A clean end of the connection is no proof of a complete message.
        if not usage.message_ended and usage.error is None:
            raise BrokenUpstream("The upstream ended the stream before the end of the message. Try again.")
    except GatewayError as error:
        last = error_event(error.kind, error.message, request_id)
        usage.feed_stream(last)
        yield last


async def _once(body: bytes) -> AsyncIterator[bytes]:
    yield body


@contextmanager
def _translated() -> Iterator[None]:
    """Translate the client library's exceptions into errors of the gateway."""
    try:
        yield
    except httpx.PoolTimeout as error:
        raise Overloaded from error
    except httpx.TimeoutException as error:
        raise UpstreamTimeout from error
    except httpx.HTTPError as error:
        raise BrokenUpstream from error
