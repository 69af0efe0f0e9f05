"""Attacks by the root of a Proxmox container: another's IP address, and another machine's SSH server."""

from __future__ import annotations

from pathlib import Path

import pytest
from pytest_django.fixtures import Settings

from shards.operations import configure
from shards.providers.base import CLEAN, NullJournal
from shards.providers.errors import ProviderError
from shards.providers.proxmox.address_pin import SET
from shards.providers.proxmox.naming import Ref
from shards.providers.proxmox.provider import ProxmoxProvider
from tests.fixtures.proxmox.driven import SPEC, Book, book, provider, provider_for, standin
from tests.fixtures.proxmox.server import StandIn

__all__ = ["book", "provider", "standin"]


def pinned(standin: StandIn, ref: str) -> dict[str, list[str]]:
    return standin.world.containers[Ref.of(ref).vmid].address_sets


def test_a_container_that_has_not_started_has_no_address(standin: StandIn, provider: ProxmoxProvider) -> None:
    ref = provider.create(SPEC, NullJournal())
    # Its template's sets would allow other addresses.
    assert pinned(standin, ref) == {SET: []}
    assert standin.world.containers[Ref.of(ref).vmid].firewall["ipfilter"] == "1"


@pytest.mark.parametrize("release", ["9.0", "9.1"])
def test_the_first_address_of_a_container_is_its_only_one(standin: StandIn, book: Book, release: str) -> None:
    standin.world.release = release
    standin.memory.looks_without_address = 2
    provider = provider_for(standin)
    ref = provider.create(SPEC, book)
    provider.start(ref, book)
    assert pinned(standin, ref) == {SET: [f"10.9.0.{Ref.of(ref).vmid}"]}


def test_another_address_is_never_pinned_later(
    standin: StandIn, provider: ProxmoxProvider, book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref = provider.create(SPEC, book)
    provider.start(ref, book)
    provider.stop(ref, book)
    monkeypatch.setattr(standin.memory, "address", lambda vmid: "10.9.0.1")
    provider.start(ref, book)
    assert pinned(standin, ref) == {SET: [f"10.9.0.{Ref.of(ref).vmid}"]}
    assert any("its address is 10.9.0.1, but" in step for step in book.steps)


def test_a_return_to_the_first_snapshot_pins_the_next_address(
    standin: StandIn, provider: ProxmoxProvider, book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref = provider.create(SPEC, book)
    provider.start(ref, book)
    provider.snapshot(ref, "later", book)
    provider.restore(ref, "later", book)
    assert pinned(standin, ref)[SET]
    provider.restore(ref, CLEAN, book)
    assert pinned(standin, ref) == {SET: []}
    monkeypatch.setattr(standin.memory, "address", lambda vmid: "10.9.0.77")
    provider.start(ref, book)
    assert pinned(standin, ref) == {SET: ["10.9.0.77"]}


def test_a_container_of_an_earlier_release_gets_a_pin(standin: StandIn, provider: ProxmoxProvider, book: Book) -> None:
    ref = provider.create(SPEC, book)
    container = standin.world.containers[Ref.of(ref).vmid]
    container.address_sets.clear()
    container.firewall.pop("ipfilter")
    provider.start(ref, book)
    assert pinned(standin, ref) == {SET: [f"10.9.0.{Ref.of(ref).vmid}"]}


def test_no_token_goes_to_a_machine_whose_key_nothing_verifies(
    standin: StandIn, book: Book, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    standin.world.release = "9.0"
    provider = provider_for(standin)
    ref = provider.create(SPEC, book)
    provider.start(ref, book)
    settings.SHARD_SSH_KEY_FILE = str(tmp_path / "key")
    monkeypatch.setattr(configure, "await_ssh", lambda *_: None)
    environment = {"MYCTOBOT_CONTROL_URL": "", "MYCTOBOT_SHARD": "", "MYCTOBOT_ENROL_TOKEN": "mcte_1"}
    with pytest.raises(ProviderError, match="Nothing verifies the SSH key"):
        configure.configure_shard(provider, ref, environment, book)


@pytest.mark.parametrize(
    ("release", "host_key", "trust", "is_problem"),
    [
        ("9.0", "", False, True),
        ("9.0", "ssh-ed25519 AAAA", False, False),
        ("9.0", "", True, False),
        ("9.1", "", False, False),
    ],
)
def test_operators_see_the_problem_before_a_container_exists(
    standin: StandIn, settings: Settings, release: str, host_key: str, trust: bool, is_problem: bool
) -> None:
    standin.world.release = release
    settings.SHARD_SSH_HOST_KEY, settings.SHARD_SSH_TRUST_FIRST_KEY = host_key, trust
    problems = provider_for(standin).problems()
    assert any("SHARD_SSH_HOST_KEY" in problem for problem in problems) is is_problem
