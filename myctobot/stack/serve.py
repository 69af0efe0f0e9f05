"""Server for an ASGI application, with the limits of the settings on its connections.

The supervisor opens the socket and passes it as ``--fd``. Uvicorn's own ``--fd`` treats every descriptor as a Unix
socket. It then leaves Nagle's algorithm on, which delays each small part of an event stream.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import socket
import warnings
from typing import Any

from django.conf import settings

from myctobot.contract import loading
from myctobot.stack.connections import ConnectionLimits, connections_within, raise_file_limit
from myctobot.stack.http_server import Server, ServerConfig

# Streams of jobs end at once, and their clients reconnect with a cursor. Other responses have this time.
GRACEFUL_SHUTDOWN_S = 3
# Young collections are rare, because they find few cycles. Full ones are frequent, because cycles of parallel requests
# outlive the young ones.
GC_THRESHOLDS = (20_000, 5, 2)
# Names of glibc's mallopt(3).
_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8
# Viewers of a job send almost nothing, so messages are small. Compression for each viewer would dominate the CPU time.
WEBSOCKETS: dict[str, Any] = {"ws_max_size": 64 * 1024, "ws_per_message_deflate": False}


def main() -> None:
    options = _parser().parse_args()
    # WhiteNoise reads static files synchronously. They are small files of ours, and Django reads them in a thread.
    warnings.filterwarnings("ignore", "StreamingHttpResponse must consume synchronous iterators")
    config = ServerConfig(
        options.application,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=GRACEFUL_SHUTDOWN_S,
        **WEBSOCKETS,
    )
    _return_freed_memory()
    loading.begin()
    config.load()
    loading.finish()
    config.limit(_limits())
    listener = _listener(options)
    gc.set_threshold(*GC_THRESHOLDS)
    Server(config).run(sockets=[listener])


def _return_freed_memory() -> None:
    """Let the C library return large blocks to the kernel, and share its heap between threads.

    By default glibc has up to eight heaps for each core, and keeps larger blocks after it has freed the first one. So
    the pages that many threads once built would stay in memory.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    # Other C libraries have no such function.
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, 2)
        mallopt(_M_MMAP_THRESHOLD, 128 * 1024)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="serve")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--fd", type=int, help="descriptor of a listening socket")
    where.add_argument("--port", type=int)
    parser.add_argument("--host", default="127.0.0.1", help="address for --port (default: %(default)s)")
    parser.add_argument("application", help="such as myctobot.asgi:application")
    return parser


def _limits() -> ConnectionLimits:
    """Return the limits of the settings, which the application has loaded."""
    return ConnectionLimits(
        total=connections_within(raise_file_limit(), settings.MAX_CONNECTIONS),
        per_address=settings.MAX_CONNECTIONS_PER_ADDRESS,
        header_timeout_s=settings.REQUEST_HEADER_TIMEOUT_S,
    )


def _listener(options: argparse.Namespace) -> socket.socket:
    if options.fd is not None:
        listener = socket.socket(fileno=options.fd)
    else:
        family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
        listener = socket.create_server((options.host, options.port), family=family)
    if listener.family != socket.AF_UNIX:
        # Connections inherit this. The kernel ends one whose client takes nothing of a response for so long.
        stall_ms = 1000 * settings.RESPONSE_STALL_TIMEOUT_S
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, stall_ms)
    return listener


if __name__ == "__main__":
    main()
