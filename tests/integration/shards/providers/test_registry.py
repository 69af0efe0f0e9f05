from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from shards.operations import periodic as upkeep
from shards.providers import registry
from shards.providers.errors import ProviderError


@pytest.fixture(autouse=True)
def _made_anew() -> Iterator[None]:
    registry.provider.cache_clear()
    yield
    registry.provider.cache_clear()


def test_an_unknown_provider_is_named_with_those_that_there_are() -> None:
    with pytest.raises(
        registry.UnknownProvider, match="no provider 'vmware'; there are: lxc, memory, process, proxmox"
    ):
        registry.provider("vmware")


def test_a_setting_that_will_not_do_is_named(settings: Any) -> None:
    settings.LXC_NETWORK = "banana"
    with pytest.raises(ProviderError, match="The provider lxc is not configured: LXC_NETWORK holds 'banana'"):
        registry.provider("lxc")


@pytest.mark.django_db
def test_and_it_keeps_nothing_else_from_being_put_right(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.LXC_NETWORK = "banana"
    looked_at: list[str] = []
    monkeypatch.setattr(upkeep, "_providers_in_use", lambda: ["lxc", "memory"])
    monkeypatch.setattr(upkeep, "reconcile", lambda name, repair: looked_at.append(name))
    upkeep.reconcile_all()
    assert looked_at == ["memory"]
