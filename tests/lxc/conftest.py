"""Real containers: ``make test-lxc``, as root. Bridge, network, user numbers and folder are the tests' own.

All of it goes away in the end, and what a run that was killed left goes away before the next.
"""

from __future__ import annotations

import fcntl
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from shards.providers.base import ContainerSpec
from shards.providers.lxc import network, template, tools
from shards.providers.lxc.host import Host
from shards.providers.lxc.provider import LxcProvider
from shards.providers.lxc.records import Place
from shards.providers.lxc.storage import unmount_below
from tests.fixtures.provider_contract import Notes

from .inside import KEY, make_key_pair

HERE = Path(__file__).parent
FOLDER = Path("/var/tmp")
PREFIX = "myctobot-lxc-test-"
NETWORK = IPv4Network("10.214.0.0/24")
GATEWAY = NETWORK[1]
ALLOWED_PORT = 18000
# The first run downloads a small Debian.
TIMEOUT_S = 900
TEMPLATE = "bare"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.lxc)
            item.add_marker(pytest.mark.timeout(TIMEOUT_S))
            item.add_marker(pytest.mark.needs("root", "lxc", "debootstrap", "nft", "tinyproxy"))


def scrub(path: Path) -> None:
    """Remove a folder of containers, whatever state they are in."""
    for folder in (path / "containers").glob("[!.]*"):
        tools.stop(Place(folder), 0)
    unmount_below(path)
    shutil.rmtree(path)


@pytest.fixture(scope="session")
def host() -> Iterator[Host]:
    """A host with a bridge and a template; one run at a time."""
    with (FOLDER / f"{PREFIX}lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for left in FOLDER.glob(f"{PREFIX}*/"):
            scrub(left)
        path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=FOLDER))
        path.chmod(0o711)
        made = Host(
            path=path,
            owner="tests",
            bridge="mctbt0",
            network=NETWORK,
            allowed=((IPv4Address(GATEWAY), ALLOWED_PORT),),
            first_id=200_000_000,
            authorized_keys=make_key_pair(path / KEY),
        )
        try:
            network.set_up(made)
            template.build(path, TEMPLATE)
            yield made
        finally:
            scrub(path)
            network.tear_down(made)


@pytest.fixture
def maker(host: Host) -> Iterator[LxcProvider]:
    maker = LxcProvider(host)
    yield maker
    for one in maker.list():
        maker.destroy(one.ref, Notes())


@pytest.fixture
def stranger(host: Host) -> LxcProvider:
    """Another control plane with the same folder."""
    return LxcProvider(replace(host, owner="somebody-else"))


def spec(name: str = "alpha", **fields: object) -> ContainerSpec:
    values: dict[str, object] = {"image": TEMPLATE, "memory_mb": 256, "disk_mb": 512, "processes": 128, **fields}
    return ContainerSpec(name, **values)  # type: ignore[arg-type]  # checked where they are written


def running(maker: LxcProvider, name: str, **fields: object) -> str:
    ref = maker.create(spec(name, **fields), Notes())
    maker.start(ref, Notes())
    return ref
