"""Scaled pools with a provider in memory, for tests of jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    # Models need the settings, whose environment exists after this file is loaded only.
    from myctobot.tenants.models import Tenant
    from tests.factories.pools import FullProvider, PoolWorld


@pytest.fixture
def maker(settings: Any) -> FullProvider:
    """Replace the provider ``memory`` by one whose containers run shards."""
    from shards.providers import registry
    from tests.factories.pools import FullProvider

    settings.PROVIDERS = {**settings.PROVIDERS, "memory": f"{FullProvider.__module__}.{FullProvider.__name__}"}
    settings.SHARD_READY_TIMEOUT_S = 1
    registry.provider.cache_clear()
    made = registry.provider("memory")
    assert isinstance(made, FullProvider)
    return made


@pytest.fixture
def world(tenant: Tenant, maker: FullProvider) -> PoolWorld:
    """Create a pool of one to three shards, none of which is built yet."""
    from tests.factories.pools import PoolWorld

    return PoolWorld(maker, tenant)
