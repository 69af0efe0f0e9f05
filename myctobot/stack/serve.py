"""Serves an ASGI application on a socket that the supervisor opened.

Uvicorn's own ``--fd`` takes every descriptor for a Unix socket, and then leaves Nagle's algorithm on,
which delays each small piece of an event stream.
"""

from __future__ import annotations

import argparse
import gc
import socket
from typing import Any

import uvicorn

# Event streams never end by themselves; their viewers come back with a cursor.
GRACEFUL_SHUTDOWN_S = 3
GC_AFTER_OBJECTS = 20_000
# Viewers of a job send nothing. Each would be compressed for by itself, which costs more than all the rest.
WEBSOCKETS: dict[str, Any] = {"ws_max_size": 64 * 1024, "ws_per_message_deflate": False}


def main() -> None:
    parser = argparse.ArgumentParser(prog="serve")
    parser.add_argument("--fd", type=int, required=True)
    parser.add_argument("application")
    options = parser.parse_args()
    config = uvicorn.Config(
        options.application,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=GRACEFUL_SHUTDOWN_S,
        **WEBSOCKETS,
    )
    config.load()
    # What is loaded now stays to the end: the collector need not go through it again and again.
    gc.collect()
    gc.freeze()
    # A call makes hundreds of objects and few cycles: as delivered it would be looked for these with almost each call.
    gc.set_threshold(GC_AFTER_OBJECTS, 20, 50)
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=options.fd)])


if __name__ == "__main__":
    main()
