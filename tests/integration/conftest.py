"""Fixtures of all integration tests: a tenant, a shard with its key, and the people who call the API."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    # Models need settings, whose environment is made after this file is loaded.
    from myctobot.tenants.models import Tenant
    from shards.models import Shard
    from tests.factories.personas import Persona


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def tenant(db: None) -> Tenant:
    from tests.factories.control_plane import make_tenant

    return make_tenant()


@pytest.fixture
def shard_and_key(db: None) -> tuple[Shard, str]:
    from tests.factories.control_plane import make_shard

    return make_shard()


@pytest.fixture
def shard(shard_and_key: tuple[Shard, str]) -> Shard:
    return shard_and_key[0]


@pytest.fixture
def key(shard_and_key: tuple[Shard, str]) -> str:
    return shard_and_key[1]


@pytest.fixture
def owner(tenant: Tenant) -> Persona:
    """The member whose job, secret or key a test is about."""
    from tests.factories.personas import Persona

    return Persona.member(tenant, "owner")


@pytest.fixture
def teammate(tenant: Tenant) -> Persona:
    """Another member of the owner's tenant."""
    from tests.factories.personas import Persona

    return Persona.member(tenant, "teammate")


@pytest.fixture
def outsider(db: None) -> Persona:
    """A member of another tenant, who must not learn that the owner's things exist."""
    from tests.factories.control_plane import make_tenant
    from tests.factories.personas import Persona

    return Persona.member(make_tenant("rival"), "outsider")
