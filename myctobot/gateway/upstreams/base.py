"""What stands behind the gateway: one interface for every provider of a model."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Literal, Protocol

from myctobot.gateway.requests import ModelRequest
from myctobot.gateway.sse import UsageReader

Endpoint = Literal["messages", "count_tokens"]


@dataclass(frozen=True)
class UpstreamCall:
    """A checked call of a job.

    ``headers`` are the caller's, in lower case; an upstream takes from them what it needs, never the
    caller's token. ``key`` decrypts the tenant's provider key; None when the job has none.
    """

    endpoint: Endpoint
    request: ModelRequest
    request_id: str
    beta: bool = False
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    key: Callable[[], Awaitable[str | None]] = field(repr=False, kw_only=True)


@dataclass(frozen=True)
class Answer:
    """What to answer with. A stream is passed on piece by piece; anything else is collected first."""

    status: int
    headers: Mapping[str, str]
    body: AsyncIterator[bytes]
    streams: bool
    usage: UsageReader = field(default_factory=UsageReader)


class Upstream(Protocol):
    @property
    def name(self) -> str: ...

    def answer(self, call: UpstreamCall) -> AbstractAsyncContextManager[Answer]:
        """Open the answer to a call; leaving the context ends whatever it holds, also halfway.

        Raises:
            GatewayError: it cannot be answered. After a stream has begun, what goes wrong comes as an
                ``error`` event within it.
        """

    async def close(self) -> None:
        """End what all calls share."""
