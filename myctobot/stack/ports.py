"""Listening sockets on the preferred port, or on a port that the kernel chooses when it is taken."""

from __future__ import annotations

import errno
import socket

from myctobot.stack.errors import StackError

LOOPBACK = "127.0.0.1"
BACKLOG = 256


def listen(preferred: int, host: str = LOOPBACK) -> socket.socket:
    """Bind and listen immediately, so that no other process can take the port before the server runs.

    The supervisor keeps the socket during restarts of the server, so that connections wait instead of
    being refused.

    Args:
        preferred: the port.
        host: an IPv4 address of this machine.

    Raises:
        StackError: the machine has no such address.
    """
    try:
        return _listen(preferred, host)
    except OSError as error:
        if error.errno == errno.EADDRNOTAVAIL:
            raise StackError(
                f"This machine has no address {host}. Create its network first, or listen on another address."
            ) from None
        if error.errno not in (errno.EADDRINUSE, errno.EACCES):
            raise
        return _listen(0, host)


def _listen(port: int, host: str) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def free_port(preferred: int, host: str = LOOPBACK) -> int:
    """Return a port that is free now, for a server that binds it itself. Another process may still take it."""
    with listen(preferred, host) as listener:
        port: int = listener.getsockname()[1]
        return port
