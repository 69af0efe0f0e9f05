"""Bodies of requests and responses in plain ASGI."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from asgiref.typing import ASGIReceiveCallable, ASGISendCallable


@dataclass(frozen=True)
class RawResponse:
    """Complete HTTP response, without its content length.

    Attributes:
        status: HTTP status code.
        headers: names and values.
        body: the bytes.
    """

    status: int
    headers: Iterable[tuple[bytes, bytes]]
    body: bytes

    async def send(self, send: ASGISendCallable) -> None:
        headers = [*self.headers, (b"content-length", str(len(self.body)).encode())]
        await send({"type": "http.response.start", "status": self.status, "headers": headers, "trailers": False})
        await send({"type": "http.response.body", "body": self.body, "more_body": False})


async def read_body(receive: ASGIReceiveCallable) -> bytes | None:
    """Return a whole body, or None if the client disconnected. ``BodyLimiter`` bounds its size and its time."""
    pieces: list[bytes] = []
    while True:
        message: Any = await receive()
        if message["type"] != "http.request":
            return None
        pieces.append(message.get("body", b""))
        if not message.get("more_body", False):
            # Joining once keeps the cost of many small pieces linear.
            return b"".join(pieces)
