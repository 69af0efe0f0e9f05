from __future__ import annotations

import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError

from myctobot.lib.crypto import digest
from myctobot.tenants.models import Tenant
from shards.models import Assignment, Pool, Shard
from tests.factories.control_plane import make_shard

pytestmark = pytest.mark.django_db


def test_a_shards_class_follows_its_capabilities_and_pool() -> None:
    shard, _ = make_shard("two", "git", "browser", "git")
    assert (shard.capabilities, shard.shard_class) == (["browser", "git"], "browser+git")
    shard.pool = Pool.objects.create(name="premium")
    shard.save()
    assert shard.queues == ["cap.browser+git@premium", "shard.two"]


def test_only_the_digest_of_a_key_is_stored() -> None:
    shard, key = make_shard()
    assert shard.key_hash == digest(key)


@pytest.mark.parametrize("name", ["Upper", "with space", "a.b", "-a", "a+b", ""])
def test_names_are_slugs_because_queues_contain_them(name: str) -> None:
    with pytest.raises(ValidationError):
        Shard(name=name, capabilities=["git"]).full_clean()


@pytest.mark.parametrize("capabilities", [[], ["Git"], ["a b"]])
def test_capabilities_are_slugs(capabilities: list[str]) -> None:
    with pytest.raises(ValueError, match="capability|slug"):  # noqa: RUF043  # two sentences
        Shard(name="x", capabilities=capabilities).save()


def test_an_assignment_is_of_a_shard_or_of_a_pool(tenant: Tenant, shard: Shard) -> None:
    with pytest.raises(IntegrityError, match="shard_or_a_pool"):
        Assignment.objects.create(tenant=tenant, shard=shard, pool=Pool.objects.create(name="p"))


def test_an_assignment_is_of_something(tenant: Tenant) -> None:
    with pytest.raises(IntegrityError, match="shard_or_a_pool"):
        Assignment.objects.create(tenant=tenant)


def test_a_tenant_has_one_default(tenant: Tenant, shard: Shard) -> None:
    Assignment.objects.create(tenant=tenant, shard=shard, is_default=True)
    with pytest.raises(IntegrityError, match="one_default"):
        Assignment.objects.create(tenant=tenant, pool=Pool.objects.create(name="p"), is_default=True)
