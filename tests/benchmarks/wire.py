"""A client that costs next to nothing, so that what is measured is the server: HTTP/1.1 over kept connections."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

_TIMEOUT_S = 60
# A server closes what is idle for longer (uvicorn after five seconds).
_KEPT_S = 3


class Wire:
    """Connections to one server.

    Args:
        url: of the server, such as ``http://127.0.0.1:8000``.
        headers: sent with every request.
    """

    def __init__(self, url: str, headers: Mapping[str, str]) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "", parts.port or 80
        lines = {"Host": f"{self._host}:{self._port}", "Content-Type": "application/json", **headers}
        self._head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        self._idle: list[tuple[float, asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def __aenter__(self) -> Wire:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        for _, _, writer in self._idle:
            writer.close()

    async def post(self, path: str, body: Any, headers: Mapping[str, str] | None = None) -> tuple[int, Any]:
        """Send JSON; returns the status and what came back."""
        more = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
        content = json.dumps(body).encode()
        head = f"POST {path} HTTP/1.1\r\n{self._head}{more}Content-Length: {len(content)}\r\n\r\n"
        reader, writer = await self._connection()
        # Cheaper than ``asyncio.timeout``; whoever reads finds the connection gone.
        too_late = asyncio.get_running_loop().call_later(_TIMEOUT_S, writer.transport.abort)
        try:
            writer.write(head.encode() + content)
            status, answer = await _read(reader)
        finally:
            too_late.cancel()
        self._idle.append((time.monotonic(), reader, writer))
        return status, answer

    async def _connection(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        while self._idle:
            since, reader, writer = self._idle.pop()
            if time.monotonic() - since < _KEPT_S:
                return reader, writer
            writer.close()
        async with asyncio.timeout(_TIMEOUT_S):
            return await asyncio.open_connection(self._host, self._port)


async def _read(reader: asyncio.StreamReader) -> tuple[int, Any]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    names = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
    if "content-length" in names:
        body = await reader.readexactly(int(names["content-length"]))
    else:
        body = await _chunks(reader)
    return int(head[0].split(" ")[1]), json.loads(body) if body else None


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    """A body whose length was not known before; see RFC 9112, section 7.1."""
    body = b""
    while size := int(await reader.readline(), 16):
        body += await reader.readexactly(size)
        await reader.readexactly(2)
    await reader.readexactly(2)
    return body
