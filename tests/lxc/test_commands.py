"""Command ``manage.py lxc`` with a folder and a network of its own."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from myctobot.stack.plan import CHECKOUT
from shards.providers.lxc.host import LxcHost
from shards.providers.lxc.provider import LxcProvider

OWN = {
    "LXC_OWNER": "tests",
    "LXC_BRIDGE": "mctbt2",
    "LXC_NETWORK": "10.214.2.0/28",
    "LXC_FIRST_ID": "260000000",
    "EGRESS_PORT": "18888",
    "EGRESS_ALLOWED_HOSTS": "allowed.invalid",
}


@pytest.fixture
def environment(host: LxcHost) -> Iterator[dict[str, str]]:
    path = host.path / "commands"
    path.mkdir(mode=0o711)
    (path / "templates").symlink_to(host.path / "templates")
    made = {"PATH": os.environ["PATH"], "MYCTOBOT_HOME": str(path / "home"), "LXC_PATH": str(path), **OWN}
    yield made
    manage(made, "lxc", "teardown", "--with-containers")
    shutil.rmtree(path)


def manage(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=CHECKOUT, env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_setup_reports_its_changes_and_status_reports_what_is_missing(environment: dict[str, str]) -> None:
    before = manage(environment, "lxc", "status").stdout
    assert before.count("manage.py lxc setup") == 3
    done = manage(environment, "lxc", "setup")
    assert "mctbt2 has 10.214.2.1" in done.stdout, done.stderr
    after = manage(environment, "lxc", "status").stdout
    assert "problem" not in after
    assert "template bare: built" in after


def test_teardown_removes_containers_only_with_the_option(environment: dict[str, str], host: LxcHost) -> None:
    manage(environment, "lxc", "setup")
    program = (
        "from shards.providers.base import ContainerSpec, NullJournal; from shards.providers.registry import provider; "
        "maker = provider('lxc'); ref = maker.create(ContainerSpec('alpha', 'bare', disk_mb=64), NullJournal()); "
        "maker.start(ref, NullJournal()); print(maker.status(ref).address)"
    )
    assert "10.214.2.2" in manage(environment, "shell", "-c", program).stdout
    refused = manage(environment, "lxc", "teardown")
    assert "alpha" in refused.stderr
    assert refused.returncode == 1
    done = manage(environment, "lxc", "teardown", "--with-containers")
    assert done.returncode == 0, done.stderr
    assert not Path("/sys/class/net/mctbt2").exists()
    assert str(Path(environment["LXC_PATH"]) / "containers") not in Path("/proc/self/mountinfo").read_text()
    assert LxcProvider(host).list() == []


@pytest.mark.needs("tinyproxy")
def test_the_proxy_serves_the_bridge_as_its_own_user(environment: dict[str, str]) -> None:
    manage(environment, "lxc", "setup")
    proxy = subprocess.Popen(
        [sys.executable, "manage.py", "egress_proxy"],
        cwd=CHECKOUT, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 30
        while not listening(18888) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert listening(18888) == ["10.214.2.1"]
        assert Path(f"/proc/{proxy.pid}").stat().st_uid != 0
    finally:
        proxy.terminate()
        proxy.wait(10)


def listening(port: int) -> list[str]:
    """Return the addresses on which a process listens on a port."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    ends = [row[1].split(":") for row in rows if row[3] == "0A"]
    return [socket.inet_ntoa(bytes.fromhex(address)[::-1]) for address, number in ends if int(number, 16) == port]


def test_the_proxy_refuses_an_address_as_an_allowed_host(environment: dict[str, str]) -> None:
    done = manage({**environment, "EGRESS_ALLOWED_HOSTS": "10.0.0.1"}, "egress_proxy")
    assert done.returncode == 1
    assert "10.0.0.1" in done.stderr
