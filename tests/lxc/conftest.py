"""Fixtures of the tests with real containers (``make test-lxc``, as root).

Bridge, network, user numbers and folder belong to the tests. Each run removes them at its end, and removes the
leftovers of a killed run at its start.
"""

from __future__ import annotations

import fcntl
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import pytest

from shards.providers.base import ContainerSpec
from shards.providers.lxc import network
from shards.providers.lxc.host import LxcHost
from shards.providers.lxc.provider import LxcProvider
from tests.fixtures.provider_contract import Notes

from .inside import KEY, make_key_pair
from .templates import BARE, bare_template
from .world import FOLDER, World, own_folder, remove_leftovers, running_world

HERE = Path(__file__).parent
NETWORK = IPv4Network("10.214.0.0/24")
GATEWAY = NETWORK[1]
ALLOWED_PORT = 18000
# The stacks of other workers use the default port, and a test listens on this one on all addresses.
EGRESS_PORT = 18889
# The first run downloads a small Debian, which takes minutes.
TIMEOUT_S = 900
TEMPLATE = BARE


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.lxc)
            item.add_marker(pytest.mark.timeout(TIMEOUT_S))
            item.add_marker(pytest.mark.needs("root", "lxc", "debootstrap", "nft", "tinyproxy"))


@pytest.fixture(scope="session")
def host() -> Iterator[LxcHost]:
    """Set up a host with a bridge and a template; only one run at a time uses it."""
    with lxc_host("test", "mctbt0", NETWORK, 200_000_000) as made:
        yield made


@contextmanager
def lxc_host(name: str, bridge: str, network_of_bridge: IPv4Network, first_id: int) -> Iterator[LxcHost]:
    """Set up a host for containers, and remove it and its containers at the end; one host of a name exists at a time.

    The leftovers of a killed run with this name are removed first.

    Args:
        name: part of the folder's name.
        bridge, network_of_bridge, first_id: bridge, network and first user number, which nothing else may use.
    """
    prefix = f"myctobot-lxc-{name}-"
    with (FOLDER / f"{prefix}lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for left in FOLDER.glob(f"{prefix}*/"):
            remove_leftovers(left)
        path = Path(tempfile.mkdtemp(prefix=prefix, dir=FOLDER))
        path.chmod(0o711)
        made = LxcHost(
            path=path,
            owner="tests",
            bridge=bridge,
            network=network_of_bridge,
            allowed=((network_of_bridge[1], ALLOWED_PORT),),
            egress_port=EGRESS_PORT,
            first_id=first_id,
            authorized_keys=make_key_pair(path / KEY),
        )
        try:
            network.set_up(made)
            bare_template(path)
            yield made
        finally:
            remove_leftovers(path)
            network.tear_down(made)


@pytest.fixture(scope="session")
def general() -> Iterator[World]:
    """Start a stack for shards of the type ``general``; each module adds shards of its own and destroys them."""
    settings: dict[str, Any] = {"bridge": "mctbg0", "net": "10.217.0.0/24", "first_id": 100_000_000}
    with own_folder("general") as folder, running_world(folder, **settings) as world:
        yield world


@contextmanager
def shards_in(world: World, *names: str, more: Mapping[str, tuple[str, ...]] | None = None) -> Iterator[World]:
    """Add shards to a world, and destroy them after the block.

    Args:
        more: further options of ``manage.py shards add``, by the shard's name.
    """
    for name in names:
        options = (more or {}).get(name, ())
        world.operate("add", name, "--template", "general", "--provider", "lxc", "--provision", *options)
    yield world
    for name in names:
        world.operate("destroy", name, "--force")


@pytest.fixture
def maker(host: LxcHost) -> Iterator[LxcProvider]:
    maker = LxcProvider(host)
    yield maker
    for one in maker.list():
        maker.destroy(one.ref, Notes())


@pytest.fixture
def stranger(host: LxcHost) -> LxcProvider:
    """Return the provider of another control plane with the same folder."""
    return LxcProvider(replace(host, owner="other-owner"))


def spec(name: str = "alpha", **fields: object) -> ContainerSpec:
    values: dict[str, object] = {"image": TEMPLATE, "memory_mb": 256, "disk_mb": 512, "processes": 128, **fields}
    return ContainerSpec(name, **values)  # type: ignore[arg-type]  # callers pass valid types


def running(maker: LxcProvider, name: str, **fields: object) -> str:
    ref = maker.create(spec(name, **fields), Notes())
    maker.start(ref, Notes())
    return ref
