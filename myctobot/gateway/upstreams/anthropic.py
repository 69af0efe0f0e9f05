"""Passes calls on to Anthropic's API, with the tenant's key in place of the job's token."""

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
    NoProviderKey,
    NotAuthenticated,
    Overloaded,
    UpstreamTimeout,
    error_body,
    error_event,
)
from myctobot.gateway.sse import UsageReader
from myctobot.gateway.upstreams.base import Answer, UpstreamCall

PATHS = {"messages": "/v1/messages", "count_tokens": "/v1/messages/count_tokens"}
# Of what the caller sends; everything else, its token and cookies above all, stays here.
REQUEST_HEADERS = ("anthropic-version", "anthropic-beta", "content-type", "accept")
DEFAULT_VERSION = "2023-06-01"
RESPONSE_HEADERS = frozenset({"content-type", "request-id", "retry-after", "x-should-retry"})
RESPONSE_HEADER_PREFIX = "anthropic-ratelimit-"
MAX_ERROR_BYTES = 64 * 1024
MAX_DOCUMENT_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True)
class Patience:
    """How long to wait, in seconds, and for how many calls at once.

    ``read_s`` is between two pieces of an answer: a long answer that does not stream comes in one piece.
    """

    connect_s: float = 10
    read_s: float = 600
    write_s: float = 60
    pool_s: float = 10
    connections: int = 500


class AnthropicUpstream:
    name = "anthropic"

    def __init__(self, base_url: str, patience: Patience | None = None) -> None:
        patience = patience or Patience()
        self._base_url = base_url.rstrip("/")
        self._client = httpx.AsyncClient(
            timeout=httpx.Timeout(
                connect=patience.connect_s, read=patience.read_s, write=patience.write_s, pool=patience.pool_s
            ),
            limits=httpx.Limits(max_connections=patience.connections, max_keepalive_connections=50),
            follow_redirects=False,
            # The environment's proxies and .netrc must not decide where keys go.
            trust_env=False,
            # A cookie from one tenant's answer must not go out with another's request.
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
            # Set once, so that no header of the client library goes out unnoticed.
            headers={"user-agent": "myctobot-gateway", "accept-encoding": "identity"},
        )

    @asynccontextmanager
    async def answer(self, call: UpstreamCall) -> AsyncIterator[Answer]:
        key = _checked(await call.key())
        request = self._client.build_request(
            "POST",
            self._base_url + PATHS[call.endpoint],
            params={"beta": "true"} if call.beta else None,
            headers={**_passed_on(call.headers), "x-api-key": key},
            content=call.request.body,
        )
        with _translated():
            response = await self._client.send(request, stream=True)
        try:
            yield await _answer(response, call, key)
        finally:
            await response.aclose()

    async def close(self) -> None:
        await self._client.aclose()


def _checked(key: str | None) -> str:
    if not key:
        raise NoProviderKey
    if not key.isascii() or not key.isprintable() or " " in key:
        raise NotAuthenticated("anthropic_api_key: holds characters that no key has; store the key again")
    return key


def _passed_on(headers: Mapping[str, str]) -> dict[str, str]:
    chosen = {name: headers[name] for name in REQUEST_HEADERS if name in headers}
    return {"anthropic-version": DEFAULT_VERSION, "content-type": "application/json", **chosen}


async def _answer(response: httpx.Response, call: UpstreamCall, key: str) -> Answer:
    if 300 <= response.status_code < 400:
        raise BrokenUpstream("The upstream answers with a redirect, which is not followed; check ANTHROPIC_BASE_URL.")
    headers = {
        name: value
        for name, value in response.headers.items()
        if name in RESPONSE_HEADERS or name.startswith(RESPONSE_HEADER_PREFIX)
    }
    headers.setdefault("request-id", call.request_id)
    if response.status_code >= 400:
        body = _error(response.status_code, await _read(response, MAX_ERROR_BYTES), headers["request-id"], key)
        headers["content-type"] = "application/json"
        return Answer(response.status_code, headers, _once(body), streams=False)
    usage = UsageReader()
    if headers.get("content-type", "").startswith("text/event-stream"):
        return Answer(response.status_code, headers, _stream(response, usage, headers["request-id"]), True, usage)
    document = await _read(response, MAX_DOCUMENT_BYTES)
    usage.feed_document(document)
    return Answer(response.status_code, headers, _once(document), False, usage)


def _error(status: int, body: bytes, request_id: str, key: str) -> bytes:
    """Pass an error of Anthropic's shape on, and put any other into it."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        document = None
    if isinstance(document, dict) and document.get("type") == "error" and isinstance(document.get("error"), dict):
        return body.replace(key.encode(), b"[anthropic_api_key]")
    kind = TYPES_BY_STATUS.get(status, "api_error")
    return error_body(kind, f"The upstream answered with status {status} and no explanation.", request_id)


async def _read(response: httpx.Response, most: int) -> bytes:
    body = bytearray()
    with _translated():
        async for piece in response.aiter_bytes():
            body += piece
            if len(body) > most:
                raise BrokenUpstream(f"The upstream's answer is larger than {most} bytes.")
    return bytes(body)


async def _stream(response: httpx.Response, usage: UsageReader, request_id: str) -> AsyncIterator[bytes]:
    try:
        with _translated():
            async for piece in response.aiter_bytes():
                usage.feed_stream(piece)
                yield piece
    except GatewayError as error:
        last = error_event(error.kind, error.message, request_id)
        usage.feed_stream(last)
        yield last


async def _once(body: bytes) -> AsyncIterator[bytes]:
    yield body


@contextmanager
def _translated() -> Iterator[None]:
    """Turn what the client library raises into what a caller can read."""
    try:
        yield
    except httpx.PoolTimeout as error:
        raise Overloaded from error
    except httpx.TimeoutException as error:
        raise UpstreamTimeout from error
    except httpx.HTTPError as error:
        raise BrokenUpstream from error
