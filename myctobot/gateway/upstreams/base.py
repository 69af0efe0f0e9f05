"""Interface of the gateway to providers of models."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from myctobot.gateway.requests import ModelRequest
from myctobot.gateway.sse import UsageReader

Endpoint = Literal["messages", "count_tokens"]


@dataclass(frozen=True)
class UpstreamCall:
    """Checked call of a job.

    ``headers`` are the caller's headers with names in lower case. An upstream reads the ones that it needs, but
    never the caller's token. ``key`` decrypts the tenant's provider key and returns None when the job has no key.
    ``document`` parses the conversation in the body, which only an upstream without a provider needs.
    """

    endpoint: Endpoint
    request: ModelRequest
    request_id: str
    beta: bool = False
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    key: Callable[[], Awaitable[str | None]] = field(repr=False, kw_only=True)
    document: Callable[[], Awaitable[dict[str, Any]]] = field(repr=False, kw_only=True)


@dataclass(frozen=True)
class UpstreamResponse:
    """Response of an upstream. The gateway passes a stream on in pieces, and collects any other body first."""

    status: int
    headers: Mapping[str, str]
    body: AsyncIterator[bytes]
    streams: bool
    usage: UsageReader = field(default_factory=UsageReader)


class Upstream(Protocol):
    @property
    def name(self) -> str: ...

    def respond(self, call: UpstreamCall) -> AbstractAsyncContextManager[UpstreamResponse]:
        """Open the response to a call. The end of the context releases its resources, also halfway.

        Raises:
            GatewayError: the call failed. An error after the begin of a stream becomes an ``error`` event in it.
        """

    async def close(self) -> None:
        """Close the resources that all calls share."""
