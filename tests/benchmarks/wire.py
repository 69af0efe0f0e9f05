"""HTTP/1.1 client with persistent connections and little overhead, so that the server's cost is measured."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

_TIMEOUT_S = 60
# The server closes idle connections (uvicorn after five seconds), so they are not reused after this time.
_KEEP_ALIVE_S = 3


class Wire:
    """Pool of connections to one server.

    Args:
        url: URL of the server, such as ``http://127.0.0.1:8000``.
        headers: headers of every request.
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
        """Send JSON, and return the status and the JSON of the response."""
        more = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
        content = json.dumps(body).encode()
        head = f"POST {path} HTTP/1.1\r\n{self._head}{more}Content-Length: {len(content)}\r\n\r\n"
        reader, writer = await self._connection()
        # This is cheaper than ``asyncio.timeout``; a reader gets an error from the aborted connection.
        abort_timer = asyncio.get_running_loop().call_later(_TIMEOUT_S, writer.transport.abort)
        try:
            writer.write(head.encode() + content)
            status, answer = await _read(reader)
        finally:
            abort_timer.cancel()
        self._idle.append((time.monotonic(), reader, writer))
        return status, answer

    async def _connection(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        while self._idle:
            since, reader, writer = self._idle.pop()
            if time.monotonic() - since < _KEEP_ALIVE_S:
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
        body = await _read_chunks(reader)
    return int(head[0].split(" ")[1]), json.loads(body) if body else None


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    """Return a body in chunked encoding; see RFC 9112, section 7.1."""
    body = b""
    while size := int(await reader.readline(), 16):
        body += await reader.readexactly(size)
        await reader.readexactly(2)
    await reader.readexactly(2)
    return body
