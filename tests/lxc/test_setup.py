"""Changes that ``manage.py lxc setup`` makes, problems that it reports, and their removal by ``teardown``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from shards.providers.errors import ProviderError
from shards.providers.lxc import network
from shards.providers.lxc.commands import run
from shards.providers.lxc.host import LxcHost
from shards.providers.lxc.provider import LxcProvider


@pytest.fixture
def second(host: LxcHost) -> Iterator[LxcHost]:
    """Yield a host with another network on the same machine."""
    made = replace(host, bridge="mctbt1", network=IPv4Network("10.214.1.0/28"), first_id=240_000_000)
    yield made
    network.tear_down(made)


def traces(host: LxcHost) -> tuple[list[str], list[str]]:
    """Return the reserved user numbers and the rules of one setup, because other setups may change at any time."""
    first = str(host.slot(2).first_id)
    files = (Path("/etc/subuid"), Path("/etc/subgid"))
    reserved = [line for file in files for line in file.read_text().splitlines() if line.split(":")[1] == first]
    return reserved, [line for line in run("nft", "list", "tables").splitlines() if network.table(host) in line]


def test_teardown_removes_every_trace_of_setup(second: LxcHost) -> None:
    assert traces(second) == ([], [])
    assert len(network.problems(second)) == 3
    network.set_up(second)
    assert network.problems(second) == []
    reserved, tables = traces(second)
    assert (len(reserved), len(tables) > 0) == (2, True)
    network.tear_down(second)
    network.tear_down(second)
    assert traces(second) == ([], [])
    assert not Path("/sys/class/net/mctbt1").exists()


def test_changed_settings_require_another_setup(second: LxcHost) -> None:
    network.set_up(second)
    changed = replace(second, allowed=(*second.allowed, (IPv4Address("10.214.1.1"), 9000)))
    (problem,) = network.problems(changed)
    assert "other settings" in problem
    assert "manage.py lxc setup" in problem


def test_setup_refuses_user_numbers_that_are_in_use(second: LxcHost, host: LxcHost) -> None:
    taken = replace(second, first_id=host.first_id + 65536)
    with pytest.raises(ProviderError, match="LXC_FIRST_ID"):
        network.set_up(taken)


def test_a_provider_reports_missing_requirements(second: LxcHost, tmp_path: Path) -> None:
    problems = LxcProvider(replace(second, path=tmp_path)).problems()
    assert any("bridge mctbt1" in one for one in problems)
    assert any("template" in one for one in problems)
