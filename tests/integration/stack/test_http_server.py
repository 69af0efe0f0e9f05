"""Connections that the server's limits must not disturb, and the ends of those that they end."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
import uvicorn
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosedError

from myctobot.stack import http_server
from myctobot.stack.connections import ConnectionLimits
from myctobot.stack.http_server import MAX_HEADER_BYTES, MAX_PIPELINED, ServerConfig
from myctobot.stack.serve import WEBSOCKETS

pytestmark = pytest.mark.anyio
HEADER_TIMEOUT_S = 0.2
KEEP_ALIVE_S = 1
# A server that does not close a connection in this time does not close it.
WAIT_S = 10


class App:
    """Application that answers by path, and keeps what it received."""

    def __init__(self) -> None:
        self.headers: list[list[tuple[bytes, bytes]]] = []
        self.release = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            await self._echo(receive, send)
        elif scope["type"] == "http":
            await self._answer(scope, receive, send)

    async def _answer(self, scope: Any, receive: Any, send: Any) -> None:
        while scope["path"] != "/unread" and (await receive()).get("more_body"):
            pass
        self.headers.append(list(scope["headers"]))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        if scope["path"] == "/stream":
            await send({"type": "http.response.body", "body": b"first", "more_body": True})
            await self.release.wait()
        await send({"type": "http.response.body", "body": b"last"})

    async def _echo(self, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message["text"]})


class Server:
    """Running server and its application."""

    def __init__(self, config: ServerConfig, app: App, port: int) -> None:
        self.config, self.app, self.port = config, app, port

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)


@asynccontextmanager
async def running(**limits: int) -> AsyncIterator[Server]:
    app = App()
    config = ServerConfig(
        app,
        log_config=None,
        access_log=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=1,
        **WEBSOCKETS,
    )
    config.limit(
        ConnectionLimits(
            total=limits.get("total", 100),
            per_address=limits.get("per_address", 100),
            header_timeout_s=HEADER_TIMEOUT_S,
        )
    )
    config.load()
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        await server.startup(sockets=[listener])
        try:
            yield Server(config, app, listener.getsockname()[1])
        finally:
            app.release.set()
            await server.shutdown(sockets=[listener])


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with running() as found:
        yield found


def get(path: str = "/", *lines: str) -> bytes:
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: x", *lines, "", ""]).encode()


async def read_answer(reader: asyncio.StreamReader) -> bytes:
    """Return a complete answer in chunks."""
    return await asyncio.wait_for(reader.readuntil(b"0\r\n\r\n"), WAIT_S)


async def read_to_end(reader: asyncio.StreamReader) -> bytes:
    """Return everything until the server closes the connection."""
    return await asyncio.wait_for(reader.read(), WAIT_S)


async def test_a_stream_outlives_all_timeouts(server: Server) -> None:
    reader, writer = await server.open()
    writer.write(get("/stream"))
    await asyncio.wait_for(reader.readuntil(b"first"), WAIT_S)
    await asyncio.sleep(5 * HEADER_TIMEOUT_S)
    server.app.release.set()
    assert b"last" in await read_answer(reader)
    writer.close()


async def test_a_websocket_outlives_all_timeouts(server: Server) -> None:
    async with connect(f"ws://127.0.0.1:{server.port}/", proxy=None) as viewer:
        await asyncio.sleep(5 * HEADER_TIMEOUT_S)
        await viewer.send("still here")
        assert await asyncio.wait_for(viewer.recv(), WAIT_S) == "still here"


async def test_a_connection_waits_longer_for_the_next_request_than_for_headers(server: Server) -> None:
    reader, writer = await server.open()
    for _ in range(2):
        writer.write(get())
        assert b"last" in await read_answer(reader)
        await asyncio.sleep(2 * HEADER_TIMEOUT_S)
    assert await read_to_end(reader) == b""
    writer.close()


async def test_headers_in_two_parts_are_read(server: Server) -> None:
    reader, writer = await server.open()
    request = get()
    writer.write(request[:10])
    await asyncio.sleep(HEADER_TIMEOUT_S / 4)
    writer.write(request[10:])
    assert b"last" in await read_answer(reader)
    writer.close()


async def test_headers_at_the_limit_are_read(server: Server) -> None:
    reader, writer = await server.open()
    writer.write(get("/", "a: " + "x" * (MAX_HEADER_BYTES - len("/" + "host" + "x" + "a"))))
    assert b"last" in await read_answer(reader)
    writer.write(get("/", "a: " + "x" * (MAX_HEADER_BYTES - len("/" + "host" + "x" + "a") + 1)))
    assert (await read_to_end(reader)).startswith(b"HTTP/1.1 431 ")
    writer.close()


async def test_a_few_requests_at_once_are_answered_in_order(server: Server) -> None:
    reader, writer = await server.open()
    writer.write(get() * MAX_PIPELINED)
    for _ in range(MAX_PIPELINED):
        assert b"last" in await read_answer(reader)
    writer.close()


async def test_an_answer_under_way_is_not_mixed_with_a_refusal(server: Server) -> None:
    reader, writer = await server.open()
    writer.write(get("/stream"))
    await asyncio.wait_for(reader.readuntil(b"first"), WAIT_S)
    writer.write(get() * (MAX_PIPELINED + 2))
    assert b"HTTP/1.1" not in await read_to_end(reader)
    writer.close()


async def test_trailers_do_not_become_headers(server: Server) -> None:
    reader, writer = await server.open()
    writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n")
    await asyncio.sleep(HEADER_TIMEOUT_S / 4)
    writer.write(b"0\r\nX-Forwarded-Proto: https\r\n\r\n")
    assert b"last" in await read_answer(reader)
    writer.write(get())
    assert b"last" in await read_answer(reader)
    names = [[name for name, _ in headers] for headers in server.app.headers]
    assert names == [[b"host", b"transfer-encoding"], [b"host"]]
    writer.close()


async def test_the_rest_of_an_unread_body_is_discarded(server: Server) -> None:
    reader, writer = await server.open()
    writer.write(b"POST /unread HTTP/1.1\r\nHost: x\r\nContent-Length: 200000\r\n\r\n" + b"x" * 100_000)
    assert b"last" in await read_answer(reader)
    writer.write(b"x" * 100_000 + get())
    assert b"last" in await read_answer(reader)
    writer.close()


async def test_an_unread_body_is_not_discarded_for_long(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "DISCARD_S", 0.2)
    reader, writer = await server.open()
    writer.write(b"POST /unread HTTP/1.1\r\nHost: x\r\nContent-Length: 200000\r\n\r\n")
    assert b"last" in await read_answer(reader)

    async def trickle() -> None:
        while not reader.at_eof():
            writer.write(b"x")
            await asyncio.sleep(0.05)

    async with asyncio.timeout(WAIT_S):
        await trickle()
    writer.close()


async def test_a_silent_client_gets_no_answer_and_a_slow_one_does(server: Server) -> None:
    silent, silent_writer = await server.open()
    slow, slow_writer = await server.open()
    slow_writer.write(b"GET / HTTP/1.1\r\n")
    assert await read_to_end(silent) == b""
    assert (await read_to_end(slow)).startswith(b"HTTP/1.1 408 Request Timeout\r\n")
    silent_writer.close()
    slow_writer.close()


@pytest.mark.parametrize("size", [64 * 1024 + 1, 20 * 1024 * 1024])
async def test_a_viewer_with_too_large_a_message_gets_the_code(server: Server, size: int) -> None:
    async with connect(f"ws://127.0.0.1:{server.port}/") as viewer, asyncio.timeout(WAIT_S):
        # The server may refuse the message before all of it is sent.
        with suppress(ConnectionClosedError):
            await viewer.send("x" * size)
        with pytest.raises(ConnectionClosedError) as caught:
            await viewer.recv()
    assert caught.value.rcvd is not None
    assert caught.value.rcvd.code == 1009
    assert "65536" in caught.value.rcvd.reason


async def test_a_websocket_counts_until_it_is_closed() -> None:
    async with running(per_address=1) as server:
        async with connect(f"ws://127.0.0.1:{server.port}/", proxy=None):
            reader, writer = await server.open()
            assert (await read_to_end(reader)).startswith(b"HTTP/1.1 429 Too Many Requests\r\n")
            writer.close()
        async with asyncio.timeout(WAIT_S):
            while server.config.connections.count():  # noqa: ASYNC110  # the server has no event for this
                await asyncio.sleep(0.01)
        reader, writer = await server.open()
        writer.write(get())
        assert b"last" in await read_answer(reader)
        writer.close()
