"""What ``manage.py lxc setup`` makes, what it says is missing, and that ``teardown`` takes all of it away."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from shards.providers.errors import ProviderError
from shards.providers.lxc import network
from shards.providers.lxc.commands import run
from shards.providers.lxc.host import Host
from shards.providers.lxc.provider import LxcProvider


@pytest.fixture
def second(host: Host) -> Iterator[Host]:
    """Another network on the same host."""
    made = replace(host, bridge="mctbt1", network=IPv4Network("10.214.1.0/28"), first_id=230_000_000)
    yield made
    network.tear_down(made)


def before_and_after() -> tuple[str, str, str]:
    return Path("/etc/subuid").read_text(), Path("/etc/subgid").read_text(), run("nft", "list", "ruleset")


def test_it_comes_and_goes_without_a_trace(second: Host) -> None:
    before = before_and_after()
    assert len(network.problems(second)) == 3
    network.set_up(second)
    assert network.problems(second) == []
    network.tear_down(second)
    network.tear_down(second)
    assert before_and_after() == before
    assert not Path("/sys/class/net/mctbt1").exists()


def test_other_settings_need_another_setup(second: Host) -> None:
    network.set_up(second)
    changed = replace(second, allowed=(*second.allowed, (IPv4Address("10.214.1.1"), 9000)))
    (problem,) = network.problems(changed)
    assert "other settings" in problem
    assert "manage.py lxc setup" in problem


def test_numbers_that_somebody_has_are_refused(second: Host, host: Host) -> None:
    taken = replace(second, first_id=host.first_id + 65536)
    with pytest.raises(ProviderError, match="LXC_FIRST_ID"):
        network.set_up(taken)


def test_a_provider_says_what_it_lacks(second: Host, tmp_path: Path) -> None:
    problems = LxcProvider(replace(second, path=tmp_path)).problems()
    assert any("bridge mctbt1" in one for one in problems)
    assert any("template" in one for one in problems)
