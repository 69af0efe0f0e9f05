"""Receiving side of one call. The view of a model call reads the body itself, after it has checked the token."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from io import BytesIO
from typing import Any, Final

from myctobot.gateway.errors import IncompleteBody

Message = Mapping[str, Any]
Receive = Callable[[], Awaitable[Message]]

_NO_BODY: Final = {"type": "http.request", "body": b"", "more_body": False}
_DISCONNECT: Final = {"type": "http.disconnect"}


class CallInput:
    """Body of a call, and the end of its client or of its grant.

    Args:
        receive: channel of the server.
        is_deferred: the view reads the body, and Django gets an empty one. Otherwise Django reads it first.
    """

    def __init__(self, receive: Receive, *, is_deferred: bool) -> None:
        self._receive, self._is_deferred = receive, is_deferred
        self._body_read = asyncio.Event()
        self._has_begun = False
        self._ended = asyncio.Event()

    async def receive(self) -> Message:
        """Give Django an empty body, then a disconnect when the client disconnects or the call must end."""
        if not self._is_deferred:
            return await self._receive()
        if not self._has_begun:
            self._has_begun = True
            return _NO_BODY
        waits = {asyncio.create_task(self._wait_for_disconnect()), asyncio.create_task(self._ended.wait())}
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        return _DISCONNECT

    async def read_body(self, take: Callable[[int], None]) -> bytes:
        """Return the whole body. ``take`` reserves memory for each part before it is kept, or raises.

        Raises:
            IncompleteBody: the client disconnected, or a limit on bodies was reached.
        """
        body = BytesIO()
        try:
            while True:
                message = await self._receive()
                if message["type"] != "http.request":
                    raise IncompleteBody
                part = message.get("body", b"")
                take(len(part))
                body.write(part)
                if not message.get("more_body", False):
                    return body.getvalue()
        finally:
            self._body_read.set()

    def end(self) -> None:
        """Make Django cancel the view, as if the client had disconnected."""
        self._ended.set()

    async def _wait_for_disconnect(self) -> None:
        # Only one reader may use the channel, and the rest of a body may follow a refusal.
        await self._body_read.wait()
        while (await self._receive())["type"] == "http.request":
            pass
