"""Foreign containers are never touched, hostile names are refused, and a crash leaves a trace."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from myctobot.errors import InvalidRequest
from shards.providers.base import ContainerState, NullJournal
from shards.providers.errors import ProviderError, ProviderRefused
from shards.providers.proxmox.naming import Marker, NotOurs, Ref
from shards.providers.proxmox.provider import ProxmoxProvider
from tests.fixtures.proxmox.driven import SPEC, Book, add_template, book, provider, provider_for, standin
from tests.fixtures.proxmox.server import StandIn

__all__ = ["book", "provider", "standin"]

CHECKOUT = Path(__file__).resolve().parents[5]


@pytest.mark.parametrize("name", ["", "a b", "-x", "ünder", "a" * 41, "x\nlxc.idmap: u 0 0 1", "x,mp0=/etc"])
def test_a_hostile_name_is_refused_before_any_request(standin: StandIn, name: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        provider_for(standin).create(replace(SPEC, name=name), NullJournal())
    assert "name" in caught.value.fields
    assert not [asked for asked in standin.requests if asked[0] != "GET"]


@pytest.mark.parametrize(
    "environment", [{"A": "x\nlxc.hook.pre-start: /bin/sh"}, {"A": "x\0B=y"}, {"A=B": "x"}, {"": "x"}, {"A\n": "x"}]
)
def test_variables_cannot_write_lines_of_configuration(
    standin: StandIn, provider: ProxmoxProvider, environment: dict[str, str]
) -> None:
    ref = provider.create(SPEC, NullJournal())
    with pytest.raises(InvalidRequest) as creating:
        provider.create(replace(SPEC, environment=environment), NullJournal())
    with pytest.raises(InvalidRequest) as setting:
        provider.set_environment(ref, environment)
    assert "environment" in creating.value.fields
    assert "environment" in setting.value.fields


@pytest.mark.parametrize(
    "ref",
    ["", "pve1/100", "../../x/100/0123456789abcdef", "pve1/100/../0123456789abcdef", "pve1/99/0123456789abcdef"],
)
def test_a_reference_is_no_path(standin: StandIn, provider: ProxmoxProvider, ref: str) -> None:
    for verb in (provider.destroy, provider.start):
        with pytest.raises(ProviderError, match="is not a reference"):
            verb(ref, NullJournal())
    assert standin.requests == []


def marker(vmid: int, instance: str = "0123456789abcdef", owner: str = "myctobot") -> str:
    return str(Marker(owner, vmid, instance, "shard-1", datetime.now(UTC)))


@pytest.mark.parametrize(
    "description",
    [
        "",
        "shard-1",
        marker(200, "f" * 16),
        marker(201),
        marker(200, owner="staging"),
        f"{marker(200)}\n{marker(200)}",
    ],
    ids=["none", "our name", "another instance", "a copy of ours", "another owner", "two markers"],
)
def test_foreign_containers_with_our_name_are_never_touched(
    standin: StandIn, provider: ProxmoxProvider, description: str
) -> None:
    standin.world.foreign(200, pool="shards", hostname="shard-1", tags="myctobot-shard", description=description)
    ref = "pve1/200/0123456789abcdef"
    provider.destroy(ref, NullJournal())
    with pytest.raises(NotOurs):
        provider.start(ref, NullJournal())
    with pytest.raises(NotOurs):
        provider.restore(ref, "clean", NullJournal())
    with pytest.raises(NotOurs):
        provider.set_environment(ref, {"A": "b"})
    assert provider.status(ref).state is ContainerState.GONE
    assert 200 in standin.world.containers
    assert not [asked for asked in standin.requests if asked[0] != "GET"]


def test_a_machine_outside_the_pool_is_never_touched(standin: StandIn, provider: ProxmoxProvider) -> None:
    standin.world.foreign(200, hostname="shard-1", description=marker(200))
    with pytest.raises(NotOurs, match="not in the pool"):
        provider.destroy("pve1/200/0123456789abcdef", NullJournal())
    assert provider.list() == []
    assert 200 in standin.world.containers


def test_an_old_reference_does_not_reach_who_has_its_number_now(standin: StandIn, provider: ProxmoxProvider) -> None:
    old = provider.create(SPEC, NullJournal())
    provider.destroy(old, NullJournal())
    new = provider.create(replace(SPEC, name="shard-2"), NullJournal())
    assert Ref.of(old).vmid == Ref.of(new).vmid
    provider.destroy(old, NullJournal())
    assert [found.ref for found in provider.list()] == [new]


def test_clean_up_does_not_touch_a_new_owner_of_the_number(standin: StandIn, book: Book) -> None:
    standin.world.faults.tasks["vzcreate"] = "fail"
    provider = provider_for(standin)
    original = standin.world.reserve

    def taken_when_it_fails(vmid: int) -> object:
        made = original(vmid)
        standin.world.rights.pool_of[vmid] = "shards"
        made.config["description"] = "another database"
        return made

    standin.world.reserve = taken_when_it_fails  # type: ignore[assignment,method-assign]  # simulates another client
    standin.world.faults.tasks["vzcreate"] = "dirty"
    with pytest.raises(ProviderError, match="now belongs to another container, which was not touched"):
        provider.create(replace(SPEC, image="debian"), book)
    assert standin.world.containers[100].config["description"] == "another database"


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"unprivileged": 0}, "it is privileged"),
        ({"features": "nesting=1,mknod=1"}, "it has the feature mknod=1"),
        ({"features": "mount=nfs"}, "it has the feature mount=nfs"),
        ({"mp0": "/etc/pve,mp=/mnt"}, "it has mp0"),
        ({"dev0": "/dev/kvm"}, "it has dev0"),
        ({"lxc": [["lxc.apparmor.profile", "unconfined"]]}, "it sets lxc.apparmor.profile"),
    ],
)
def test_a_template_that_opens_the_host_is_not_cloned(standin: StandIn, config: dict[str, object], said: str) -> None:
    add_template(standin)
    standin.world.containers[9000].config.update(config)
    with pytest.raises(ProviderRefused, match=said):
        provider_for(standin).create(SPEC, NullJournal())
    assert any(said in problem for problem in provider_for(standin).problems())
    assert set(standin.world.containers) == {9000}


@pytest.mark.parametrize("when", ["early", "late"])
def test_a_crash_in_the_middle_leaves_a_container_that_is_found(standin: StandIn, when: str) -> None:
    standin.world.pace_s = 0.3
    code = "from tests.fixtures.proxmox.creator import main; main()"
    arguments = [standin.url, str(standin.certificates.authority)]
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(CHECKOUT)}
    creator = subprocess.Popen(
        [sys.executable, "-c", code, *arguments], cwd=CHECKOUT, env=environment, stdout=subprocess.PIPE, text=True
    )
    assert creator.stdout is not None
    lines = iter(creator.stdout.readline, "")
    ref = next(line for line in lines if line.startswith("ref ")).split()[1]
    wanted = "clone template" if when == "early" else "set the firewall"
    assert any(wanted in line for line in lines)
    if when == "early":
        wait_until(lambda: bool(standin.asked("POST", "/clone$")))
    creator.send_signal(signal.SIGKILL)
    creator.communicate(timeout=10)
    provider = provider_for(standin)
    wait_until(lambda: [found.ref for found in provider.list()] == [ref])
    provider.destroy(ref, NullJournal())
    assert set(standin.world.containers) == {9000}


def wait_until(is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_container_being_created_is_neither_gone_nor_an_obstacle(standin: StandIn, book: Book) -> None:
    standin.world.may_step.clear()
    provider = provider_for(standin)
    with ThreadPoolExecutor(1) as pool:
        making = pool.submit(provider_for(standin).create, SPEC, book)
        wait_until(lambda: bool(standin.asked("POST", "/clone$")) and bool(book.refs))
        seen = provider.status(book.refs[0])
        assert (seen.state, provider.list()) == (ContainerState.OTHER, [])
        with pytest.raises(NotOurs):
            provider.destroy(book.refs[0], NullJournal())
        standin.world.may_step.set()
        assert making.result(timeout=20) == book.refs[0]
    assert provider.status(book.refs[0]).state is ContainerState.STOPPED


def test_a_fit_setup_has_no_problems(provider: ProxmoxProvider) -> None:
    assert provider.problems() == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"node": "pve2"}, "no node pve2; there are: pve1"),
        ({"templates": {"browser": "local:vztmpl/absent.tar.zst"}}, "download local:vztmpl/absent.tar.zst"),
        ({"url": "http://pve:8006"}, "PROXMOX_URL"),
        ({"egress": ()}, "PROXMOX_EGRESS is empty"),
        ({"pool": "other"}, "lacks Pool.Audit"),
        ({"storage": "local"}, "lacks Datastore.AllocateSpace on /storage/local"),
    ],
)
def test_problems_say_what_to_do(standin: StandIn, changes: dict[str, object], said: str) -> None:
    assert said in " ".join(provider_for(standin, **changes).problems())


def test_a_token_that_owns_the_host_is_a_problem(standin: StandIn) -> None:
    for acl in (standin.world.rights.user, standin.world.rights.token):
        acl["/"] = {"Sys.Modify", "Sys.Audit"}
    assert any("Sys.Modify on /" in problem for problem in provider_for(standin).problems())


def test_a_datacenter_without_firewall_is_a_problem_where_it_can_be_seen(standin: StandIn) -> None:
    standin.world.datacenter_firewall = 0
    assert provider_for(standin).problems() == []
    for acl in (standin.world.rights.user, standin.world.rights.token):
        acl["/"] = {"Sys.Audit"}
    assert any("datacenter's firewall is off" in problem for problem in provider_for(standin).problems())
