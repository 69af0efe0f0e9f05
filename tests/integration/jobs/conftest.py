from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    # Models need settings, whose environment is made after this file is loaded.
    from myctobot.tenants.models import Tenant
    from shards.models.shard import Shard

    from .pools import FullProvider, PoolWorld


@pytest.fixture
def tenant(db: None) -> Tenant:
    from .support import make_tenant

    return make_tenant()


@pytest.fixture
def shard_and_key(db: None) -> tuple[Shard, str]:
    from .support import make_shard

    return make_shard()


@pytest.fixture
def shard(shard_and_key: tuple[Shard, str]) -> Shard:
    return shard_and_key[0]


@pytest.fixture
def key(shard_and_key: tuple[Shard, str]) -> str:
    return shard_and_key[1]


@pytest.fixture
def maker(settings: Any) -> FullProvider:
    """The provider ``memory``, with shards inside."""
    from shards.providers import registry

    from .pools import FullProvider

    settings.PROVIDERS = {**settings.PROVIDERS, "memory": f"{FullProvider.__module__}.{FullProvider.__name__}"}
    settings.SHARD_READY_TIMEOUT_S = 1
    registry.provider.cache_clear()
    made = registry.provider("memory")
    assert isinstance(made, FullProvider)
    return made


@pytest.fixture
def world(tenant: Tenant, maker: FullProvider) -> PoolWorld:
    """A pool of one to three shards, none of which is built yet."""
    from .pools import PoolWorld

    return PoolWorld(maker, tenant)
