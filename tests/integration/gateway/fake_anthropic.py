"""A provider on the loopback that behaves as a test says, and remembers what it got."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Send = Callable[[Mapping[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]

EVENTS: list[dict[str, Any]] = [
    {"type": "message_start", "message": {"usage": {"input_tokens": 7, "cache_read_input_tokens": 5}}},
    {"type": "ping"},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hello, \u00e9"}},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 11}},
    {"type": "message_stop"},
]
STREAM = [f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in EVENTS]
DOCUMENT = b'{"type": "message", "usage": {"input_tokens": 3, "output_tokens": 4}, "unknown": [1]}'


@dataclass
class Seen:
    path: str
    query: str
    headers: dict[str, str]
    body: bytes


@dataclass
class FakeAnthropic:
    """``pieces`` are sent one by one; then it ends, breaks off or waits for the client to go."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=lambda: {"content-type": "application/json"})
    pieces: list[bytes] = field(default_factory=lambda: [DOCUMENT])
    # end, break, or wait; or mute: not even a status line
    then: str = "end"
    seen: list[Seen] = field(default_factory=list)
    called: asyncio.Event = field(default_factory=asyncio.Event)
    client_gone: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        self.seen.append(Seen(scope["path"], scope["query_string"].decode(), headers, body))
        self.called.set()
        await self._answer(receive, send)

    async def _answer(self, receive: Receive, send: Send) -> None:
        if self.then != "mute":
            raw = [(name.encode(), value.encode()) for name, value in self.headers.items()]
            await send({"type": "http.response.start", "status": self.status, "headers": raw})
            for piece in self.pieces:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        if self.then == "break":
            # uvicorn closes the connection when an application returns halfway.
            return
        if self.then in ("wait", "mute"):
            while (await receive())["type"] != "http.disconnect":
                pass
            self.client_gone.set()
            return
        await send({"type": "http.response.body", "body": b""})


def streaming(**options: Any) -> FakeAnthropic:
    return FakeAnthropic(headers={"content-type": "text/event-stream"}, **{"pieces": list(STREAM), **options})
