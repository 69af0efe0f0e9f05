"""Process of viewers: ``python -m tests.benchmarks.viewers``.

It reads a list of viewers as one line of JSON, connects them all, and reports that it is ready. It prints the counts
when all viewers have received the end, or when standard input is closed and no event has arrived for a while. The
viewers run in a process of their own, so that they take no processor time from the server's process.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

import httpx
from websockets.asyncio.client import connect

from tests.benchmarks.tally import Tally, to_json

READY = "all is ready."
_CONNECT_S = 30
# The backlog of a listener holds as many connections without dropping one.
_CONNECT_AT_ONCE = 40
# The kernel buffers twice as many bytes for a slow viewer; with a much smaller buffer it could not catch up.
_SMALL_BUFFER = 64 * 1024
# After standard input is closed, a silence of this length means that no more events will arrive.
_QUIET_S = 2.0


@dataclass(frozen=True)
class Viewer:
    """Connection settings of one viewer.

    Attributes:
        transport: WebSocket or Server-Sent Events.
        pause_s: time after connecting during which the viewer reads nothing.
    """

    transport: Literal["ws", "sse"]
    url: str
    headers: dict[str, str]
    pause_s: float = 0.0


@asynccontextmanager
async def _messages(viewer: Viewer) -> AsyncIterator[AsyncIterator[bytes]]:
    """Connect, and yield the messages, which contain whole events."""
    async with _websocket(viewer) if viewer.transport == "ws" else _event_stream(viewer) as messages:
        yield messages


@asynccontextmanager
async def _websocket(viewer: Viewer) -> AsyncIterator[AsyncIterator[bytes]]:
    options: dict[str, Any] = {}
    if viewer.pause_s:
        address = urlsplit(viewer.url)
        small = socket.socket()
        small.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SMALL_BUFFER)
        small.connect((address.hostname, address.port))
        options = {"sock": small, "max_queue": 1}
    async with connect(
        viewer.url,
        additional_headers=viewer.headers,
        compression=None,
        max_size=None,
        open_timeout=_CONNECT_S,
        # A viewer that reads nothing cannot answer a ping.
        ping_interval=None,
        proxy=None,
        **options,
    ) as connection:

        async def received() -> AsyncIterator[bytes]:
            while True:
                yield await connection.recv(decode=False)

        yield received()


@asynccontextmanager
async def _event_stream(viewer: Viewer) -> AsyncIterator[AsyncIterator[bytes]]:
    buffer = [(socket.SOL_SOCKET, socket.SO_RCVBUF, _SMALL_BUFFER)] if viewer.pause_s else None
    transport = httpx.AsyncHTTPTransport(socket_options=buffer)
    timeout = httpx.Timeout(_CONNECT_S, read=None)
    async with (
        httpx.AsyncClient(transport=transport, timeout=timeout) as client,
        client.stream("GET", viewer.url, headers=viewer.headers) as response,
    ):
        response.raise_for_status()

        async def received() -> AsyncIterator[bytes]:
            rest = b""
            async for chunk in response.aiter_raw():
                whole, mark, rest = (rest + chunk).rpartition(b"\n\n")
                if mark:
                    yield whole

        yield received()


class Audience:
    """Viewers of this process."""

    def __init__(self) -> None:
        self.lags: Counter[int] = Counter()
        self.tallies: list[Tally] = []
        self._received = asyncio.Event()
        self._connecting = asyncio.Semaphore(_CONNECT_AT_ONCE)

    async def watch(self, viewer: Viewer, connected: asyncio.Queue[None]) -> None:
        """Read one stream to its end."""
        # The lags of a slow viewer are its own and not those of the stream.
        tally = Tally(Counter() if viewer.pause_s else self.lags)
        self.tallies.append(tally)
        await self._connecting.acquire()
        async with _messages(viewer) as messages:
            self._connecting.release()
            tally.since = time.time()
            connected.put_nowait(None)
            await asyncio.sleep(viewer.pause_s)
            async for text in messages:
                self._received.set()
                if tally.add(text, time.time()):
                    return

    async def wait_quiet(self) -> None:
        """Wait until standard input is closed and no event has arrived for a while."""
        closed, loop = asyncio.Event(), asyncio.get_running_loop()
        loop.add_reader(sys.stdin.fileno(), closed.set)
        await closed.wait()
        loop.remove_reader(sys.stdin.fileno())
        with suppress(TimeoutError):
            while True:
                self._received.clear()
                await asyncio.wait_for(self._received.wait(), _QUIET_S)


async def _wait_first(watching: asyncio.Future[list[None]], other: asyncio.Future[Any]) -> None:
    """Wait for one of the two, and raise the error of a viewer that failed."""
    waited: set[asyncio.Future[Any]] = {watching, other}
    await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
    if watching.done():
        await watching


async def _watch_all(viewers: list[Viewer]) -> dict[str, Any]:
    audience = Audience()
    connected: asyncio.Queue[None] = asyncio.Queue()
    watching = asyncio.gather(*(audience.watch(viewer, connected) for viewer in viewers))
    # A viewer that cannot connect ends the process at once.
    await _wait_first(watching, asyncio.gather(*(connected.get() for _ in viewers)))
    sys.stdout.write(f"{READY}\n")
    sys.stdout.flush()
    await _wait_first(watching, asyncio.ensure_future(audience.wait_quiet()))
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    return to_json([tally.seen for tally in audience.tallies], audience.lags)


def main() -> None:
    viewers = [Viewer(**one) for one in json.loads(sys.stdin.readline())]
    sys.stdout.write(f"{json.dumps(asyncio.run(_watch_all(viewers)))}\n")


if __name__ == "__main__":
    main()
