"""Firewall rules that keep the proxy's user from this host and its neighbours, even by a name that resolves there."""

from __future__ import annotations

import socket
import subprocess

import pytest

from shards.providers.lxc.host import LxcHost
from shards.providers.lxc.network import PROXY_USER, proxy_user

pytestmark = pytest.mark.needs("tinyproxy")

_CONNECT = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 2)"


def proxy_can_connect(address: str, port: int) -> bool:
    """Return True if the proxy's user can connect to an address."""
    done = subprocess.run(
        ["setpriv", "--reuid", PROXY_USER, "--clear-groups", "/usr/bin/python3", "-c", _CONNECT, address, str(port)],
        capture_output=True, timeout=20, check=False,
    )  # fmt: skip
    return done.returncode == 0


def test_the_proxys_user_cannot_connect_to_the_host(host: LxcHost) -> None:
    assert proxy_user() is not None
    with socket.create_server(("", 0)) as server:
        port = server.getsockname()[1]
        for address in ("127.0.0.1", "127.0.0.53", str(host.address)):
            socket.create_connection((address, port), timeout=2).close()
            assert not proxy_can_connect(address, port), address
