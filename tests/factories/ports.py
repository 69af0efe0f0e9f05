"""Ports for servers that a test starts later, or starts again."""

from __future__ import annotations

import random
import socket
from contextlib import ExitStack
from pathlib import Path
from typing import Final

_RANGE: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")
_FIRST: Final = 10_000
_TRIES: Final = 100


def fixed_ports(number: int) -> list[int]:
    """Return free ports that the kernel gives to no connection.

    A free port of the kernel's own range can become the local port of any connection before the server binds it.

    Raises:
        RuntimeError: almost all ports are in use.
    """
    first_of_kernel = int(_RANGE.read_text().split()[0])
    with ExitStack() as opened:
        found: list[int] = []
        for port in random.sample(range(_FIRST, first_of_kernel), _TRIES):
            try:
                opened.enter_context(socket.create_server(("127.0.0.1", port)))
            except OSError:
                continue
            found.append(port)
            if len(found) == number:
                return found
    raise RuntimeError(f"fewer than {number} of {_TRIES} ports between {_FIRST} and {first_of_kernel} are free")
