"""Contract of all providers, for proxmox with the stand-in."""

from __future__ import annotations

import pytest

from shards.providers.base import Provider
from shards.providers.proxmox.naming import Ref
from shards.providers.proxmox.provider import ProxmoxProvider
from tests.fixtures.provider_contract import ProviderContract
from tests.fixtures.proxmox.driven import settings_for, standin, thread_turn
from tests.fixtures.proxmox.server import StandIn

__all__ = ["standin"]


class Driven(ProxmoxProvider):
    """Provider with access to the stand-in's containers."""

    def __init__(self, standin: StandIn) -> None:
        super().__init__(settings_for(standin), thread_turn)
        self.standin = standin


@pytest.fixture
def maker(standin: StandIn) -> Driven:
    return Driven(standin)


class TestProxmox(ProviderContract):
    image = "general"

    def environment(self, maker: Provider, ref: str) -> dict[str, str]:
        assert isinstance(maker, Driven)
        return maker.standin.memory.environments[Ref.of(ref).vmid]

    def write(self, maker: Provider, ref: str, mark: str) -> None:
        assert isinstance(maker, Driven)
        maker.standin.memory.files[Ref.of(ref).vmid][mark] = mark

    def holds(self, maker: Provider, ref: str, mark: str) -> bool:
        assert isinstance(maker, Driven)
        return mark in maker.standin.memory.files[Ref.of(ref).vmid]
