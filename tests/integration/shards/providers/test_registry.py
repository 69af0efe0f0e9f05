from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from shards.operations import periodic
from shards.providers import registry
from shards.providers.registry import ProviderNotConfigured


@pytest.fixture(autouse=True)
def _fresh_registry() -> Iterator[None]:
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
    with pytest.raises(
        ProviderNotConfigured, match="The provider lxc is not configured: LXC_NETWORK contains 'banana'"
    ):
        registry.provider("lxc")


@pytest.mark.django_db
def test_a_wrong_setting_does_not_prevent_other_repairs(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.LXC_NETWORK = "banana"
    reconciled: list[str] = []
    monkeypatch.setattr(periodic, "_providers_in_use", lambda: ["lxc", "memory"])
    monkeypatch.setattr(periodic, "reconcile", lambda name, repair: reconciled.append(name))
    periodic.reconcile_all()
    assert reconciled == ["memory"]
