"""Attacks on the filtering proxy: the real program with our configuration."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from myctobot.errors import InvalidRequest
from shards.providers.lxc.egress import configuration, filter_text
from tests.factories.ports import fixed_ports
from tests.fixtures.ssh_server import SBIN

pytestmark = pytest.mark.needs("tinyproxy")

LOOPBACK = IPv4Address("127.0.0.1")


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Run tinyproxy on loopback without DNS, so that allowed requests fail later and with another error."""
    folder = tmp_path_factory.mktemp("proxy")
    names, config = folder / "allowed", folder / "tinyproxy.conf"
    names.write_text(filter_text(["allowed.invalid", ".wide.invalid", "LOUD.invalid"]))
    (port,) = fixed_ports(1)
    config.write_text(configuration(LOOPBACK, port, IPv4Network("127.0.0.0/8"), str(names)))
    program = shutil.which("tinyproxy", path=SBIN)
    assert program is not None
    with (folder / "log").open("wb") as log:
        running = subprocess.Popen([program, "-d", "-c", str(config)], stdout=log, stderr=log, env={"PATH": os.defpath})
    wait_open(port)
    yield port
    running.terminate()
    running.wait(10)


def wait_open(port: int) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with suppress(OSError), socket.create_connection((str(LOOPBACK), port), timeout=1):
            return
        time.sleep(0.05)


def answer(port: int, request: bytes) -> str:
    """Return the first line of the proxy's response to a request line."""
    with socket.create_connection((str(LOOPBACK), port), timeout=20) as connection:
        connection.sendall(request + b" HTTP/1.1\r\nHost: allowed.invalid\r\n\r\n")
        return connection.recv(1000).partition(b"\r\n")[0].decode()


@pytest.mark.parametrize(
    "target",
    [
        b"allowed.invalid",
        b"ALLOWED.Invalid",
        b"wide.invalid",
        b"a.wide.invalid",
        b"a.b-c.wide.invalid",
        b"loud.invalid",
    ],
)
def test_allowed_hosts_pass(proxy: int, target: bytes) -> None:
    # The proxy allows the request, and the name does not resolve.
    assert answer(proxy, b"CONNECT " + target + b":443") == "HTTP/1.1 500 Unable to connect"


@pytest.mark.parametrize(
    "line",
    [
        b"CONNECT other.invalid:443",
        b"CONNECT allowed.invalid:22",
        b"CONNECT allowed.invalid:80",
        b"CONNECT allowed.invalid:0443",
        b"CONNECT allowed.invalid",
        b"CONNECT allowed.invalid.:443",
        b"CONNECT allowed.invalid.evil.invalid:443",
        b"CONNECT xallowed.invalid:443",
        b"CONNECT x.allowed.invalid:443",
        b"CONNECT xwide.invalid:443",
        b"CONNECT .wide.invalid:443",
        b"CONNECT allowedxinvalid:443",
        b"CONNECT evil.invalid/.wide.invalid:443",
        b"CONNECT evil.invalid?.wide.invalid:443",
        b"CONNECT evil.invalid:443/allowed.invalid:443",
        b"CONNECT evil.invalid:443#allowed.invalid:443",
        b"CONNECT allowed.invalid@evil.invalid:443",
        b"CONNECT user:word@allowed.invalid:443",
        b"CONNECT evil.invalid\\.wide.invalid:443",
        b"CONNECT evil.invalid\x00.wide.invalid:443",
        b"CONNECT allowed.invalid\x00.evil.invalid:443",
        b"CONNECT evil.invalid\rallowed.invalid:443",
        b"CONNECT evil.invalid\tallowed.invalid:443",
        b"CONNECT evil.invalid\x0ballowed.invalid:443",
        b"CONNECT evil.invalid%00.wide.invalid:443",
        b"CONNECT \xe1\xba\x9aallowed.invalid:443",
        b"CONNECT 127.0.0.1:443",
        b"CONNECT 169.254.169.254:443",
        b"CONNECT 2130706433:443",
        b"CONNECT 0x7f000001:443",
        b"CONNECT [::1]:443",
        b"CONNECT [::ffff:127.0.0.1]:443",
        b"CONNECT http://allowed.invalid:443",
        b"GET http://allowed.invalid/",
        b"GET http://allowed.invalid:443/",
        b"GET https://allowed.invalid/",
        b"GET allowed.invalid:443",
        b"POST http://allowed.invalid:443",
        b"GET /",
    ],
)
def test_every_other_spelling_is_refused(proxy: int, line: bytes) -> None:
    assert answer(proxy, line).split(" ")[1] in ("400", "403"), line


@pytest.mark.parametrize(
    "host",
    [
        *("", ".", "*", "*.example.org", "example.org.", "-x.org", "x" * 254, "https://x.org", "x.org:443"),
        *("10.0.0.1", "::1", "a b", "a\nb", "a|b"),
    ],
)
def test_a_name_that_is_none_is_refused_by_its_setting(host: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        filter_text([host])
    assert list(caught.value.fields) == ["EGRESS_ALLOWED_HOSTS"]


def test_without_names_everything_is_refused() -> None:
    assert filter_text([]) == ""
    assert "FilterDefaultDeny Yes" in configuration(LOOPBACK, 1, IPv4Network("10.0.0.0/8"), str(Path("/x")))
