"""The proxy's user may not be led by a name to this host's neighbours, or to this host."""

from __future__ import annotations

import socket
import subprocess

import pytest

from shards.providers.lxc.host import Host
from shards.providers.lxc.network import PROXY_USER, proxy_user

pytestmark = pytest.mark.needs("tinyproxy")

_TRY = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 2)"


def as_proxy(address: str, port: int) -> bool:
    """Whether the proxy's user can connect there."""
    done = subprocess.run(
        ["setpriv", "--reuid", PROXY_USER, "--clear-groups", "/usr/bin/python3", "-c", _TRY, address, str(port)],
        capture_output=True, timeout=20, check=False,
    )  # fmt: skip
    return done.returncode == 0


def test_names_that_lead_inside_lead_nowhere(host: Host) -> None:
    assert proxy_user() is not None
    with socket.create_server(("", 0)) as server:
        port = server.getsockname()[1]
        for address in ("127.0.0.1", "127.0.0.53", str(host.address)):
            socket.create_connection((address, port), timeout=2).close()
            assert not as_proxy(address, port), address
