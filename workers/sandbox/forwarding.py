"""Forwarding of a job's connections from its network to the gateway, the filtering proxy and single servers."""

from __future__ import annotations

import asyncio
import functools
import logging
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final
from urllib.parse import SplitResult, urlsplit

from myctobot.contract.direct_addresses import DirectAddress
from workers.sandbox.network import LOOPBACK

log = logging.getLogger(__name__)

# Ports inside; a job's own programs rarely use them, and each job has its own.
GATEWAY_PORT: Final = 47001
PROXY_PORT: Final = 47002
# Open connections of one job, so that it cannot use up the runner's files.
MAX_CONNECTIONS: Final = 128
MAX_HEAD: Final = 64 * 1024
HEAD_TIMEOUT_S: Final = 30
CONNECT_TIMEOUT_S: Final = 10
_CHUNK: Final = 64 * 1024
_REPLACED: Final = (b"host:", b"connection:", b"keep-alive:", b"proxy-connection:")


@dataclass(frozen=True)
class ForwardedPort:
    """Way out of a job's network.

    Args:
        port: port inside.
        url: address outside, as ``http://host:port``, ``https://host:port`` or ``tcp://address:port``; with https, the
            runner encrypts.
        is_origin: the other side is a server that must see its own name in each request, not a proxy.
        address: address inside.
    """

    port: int
    url: str
    is_origin: bool = False
    address: str = LOOPBACK


def job_routes(
    gateway_url: str, proxy_url: str | None, addresses: Sequence[DirectAddress] = ()
) -> tuple[list[ForwardedPort], dict[str, str]]:
    """Return the routes of a job, and the environment by which its programs use them.

    Args:
        gateway_url: the gateway; its path stays the same inside.
        proxy_url: the filtering proxy, if the job may reach hosts.
        addresses: servers that the job reaches directly; inside, each has the same address and port as outside.
    """
    routes = [ForwardedPort(GATEWAY_PORT, gateway_url, is_origin=True)]
    env = {"ANTHROPIC_BASE_URL": f"http://{LOOPBACK}:{GATEWAY_PORT}{urlsplit(gateway_url).path.rstrip('/')}"}
    if proxy_url is not None:
        routes.append(ForwardedPort(PROXY_PORT, proxy_url))
        proxy = f"http://{LOOPBACK}:{PROXY_PORT}"
        own = ",".join(dict.fromkeys(("localhost", LOOPBACK, "::1", *(server.ip for server in addresses))))
        env |= dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), proxy)
        env |= {"NO_PROXY": own, "no_proxy": own, "NODE_USE_ENV_PROXY": "1"}
    routes += [ForwardedPort(server.port, f"tcp://{server}", address=server.ip) for server in addresses]
    return routes, env


class Forwarder:
    """Server of one sandbox's routes, until ``close``."""

    def __init__(self) -> None:
        self._servers: list[asyncio.Server] = []
        self._connections: set[asyncio.Task[None]] = set()

    async def serve(self, listeners: Sequence[socket.socket], routes: Sequence[ForwardedPort]) -> None:
        """Accept the connections of each listener and forward them by its route."""
        for listener, route in zip(listeners, routes, strict=True):
            self._servers.append(await asyncio.start_server(self._handler(route), sock=listener, limit=MAX_HEAD))

    def _handler(self, route: ForwardedPort) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            if task is None or len(self._connections) >= MAX_CONNECTIONS:
                writer.close()
                return
            self._connections.add(task)
            try:
                await _forward(route, reader, writer)
            except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
                log.info("a connection of the job to %s ended: %r", urlsplit(route.url).hostname, error)
            finally:
                self._connections.discard(task)
                writer.close()

        return handle

    def close(self) -> None:
        """End all connections and close the listeners."""
        for server in self._servers:
            server.close()
        self._servers.clear()
        for task in self._connections:
            task.cancel()


async def _forward(route: ForwardedPort, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    parts = urlsplit(route.url)
    head = b""
    if route.is_origin:
        async with asyncio.timeout(HEAD_TIMEOUT_S):
            head = rewrite_head(await reader.readuntil(b"\r\n\r\n"), parts)
    async with asyncio.timeout(CONNECT_TIMEOUT_S):
        upstream_reader, upstream = await _connect(parts)
    try:
        upstream.write(head)
        async with asyncio.TaskGroup() as both:
            to_upstream = both.create_task(_pump(reader, upstream))
            await _pump(upstream_reader, writer)
            # The other side has ended and reads nothing more.
            to_upstream.cancel()
    finally:
        upstream.close()


async def _connect(parts: SplitResult) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    secure = parts.scheme == "https"
    port = parts.port or (443 if secure else 80)
    return await asyncio.open_connection(parts.hostname, port, ssl=_certificates() if secure else None)


@functools.cache
def _certificates() -> ssl.SSLContext:
    # Reading the system's certificates takes a tenth of a second.
    return ssl.create_default_context()


async def _pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while chunk := await source.read(_CHUNK):
            target.write(chunk)
            await target.drain()
        if target.can_write_eof():
            target.write_eof()


def rewrite_head(head: bytes, upstream: SplitResult) -> bytes:
    """Return the head of a request with the server's own name; the connection ends with its response."""
    request, *lines = head.removesuffix(b"\r\n\r\n").split(b"\r\n")
    kept = [line for line in lines if not line.lower().startswith(_REPLACED)]
    host = upstream.netloc.rpartition("@")[2].encode()
    return b"\r\n".join([request, b"Host: " + host, b"Connection: close", *kept]) + b"\r\n\r\n"
