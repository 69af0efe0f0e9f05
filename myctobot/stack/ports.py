"""Listening sockets on loopback: the wanted port, or one that the kernel picks when it is taken."""

from __future__ import annotations

import errno
import socket

LOOPBACK = "127.0.0.1"
BACKLOG = 256


def listen(preferred: int) -> socket.socket:
    """Bind and listen at once, so that nobody else can take the port before the server runs.

    The supervisor keeps the socket over restarts of the server: connections wait meanwhile instead of
    being refused.
    """
    try:
        return _listen(preferred)
    except OSError as error:
        if error.errno not in (errno.EADDRINUSE, errno.EACCES):
            raise
        return _listen(0)


def _listen(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((LOOPBACK, port))
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def free_port(preferred: int) -> int:
    """A port that is free now, for a server that binds it itself; be ready for it to be taken."""
    with listen(preferred) as listener:
        port: int = listener.getsockname()[1]
        return port
