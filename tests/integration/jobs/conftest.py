from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    # Models need settings, whose environment is made after this file is loaded.
    from myctobot.tenants.models import Tenant
    from shards.models import Shard


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
