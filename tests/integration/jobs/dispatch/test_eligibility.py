"""The condition in SQL and the router agree on which jobs no shard can ever run."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import pytest

from jobs.dispatch.eligibility import can_ever_run
from jobs.dispatch.routing import NoRoute, route
from jobs.dispatch.snapshot import load_snapshot
from jobs.models import Job
from myctobot.lib.clock import database_now
from myctobot.lib.sql import fetch_one
from myctobot.tenants.models import Tenant
from shards.models import Assignment, Pool, Shard, ShardState, ShardTemplate
from tests.factories.control_plane import make_shard, make_tenant

pytestmark = pytest.mark.django_db
NEEDS = (["git"], ["filesystem", "git"], ["browser"], ["browser", "git"], ["quantum"])
RULES = {"min": 0, "max": 2}


@pytest.fixture
def tenants() -> list[Tenant]:
    return [make_tenant("acme"), make_tenant("other")]


def assert_equal(tenants: list[Tenant]) -> set[bool]:
    """Compare both answers for all tenants and needs, and return those that occurred."""
    snapshot, answers = load_snapshot(database_now()), set()
    for tenant, needed in product(tenants, NEEDS):
        decision = route(tenant.pk, needed, snapshot)
        expected = not isinstance(decision, NoRoute) or decision.can_ever_run
        condition = can_ever_run(tenant.pk, needed)
        assert fetch_one(f"SELECT {condition.sql}", condition.values) == (expected,), (tenant, needed, decision)
        answers.add(expected)
    return answers


@pytest.mark.parametrize("state", ShardState)
@pytest.mark.parametrize("is_active", [True, False])
def test_one_shard(tenants: list[Tenant], state: ShardState, *, is_active: bool) -> None:
    for pool, slots, heard in product((None, "premium"), (1, 2), (True, False)):
        Shard.objects.all().delete()
        shard, _ = make_shard("one", "git", "filesystem", pool=pool, slots=slots, state=state, heard=heard)
        Shard.objects.update(is_active=is_active)
        assert_equal(tenants)
        for target in ({"shard": shard}, {"pool": shard.pool} if shard.pool else {"shard": shard}):
            assignment = Assignment.objects.create(tenant=tenants[0], **target)
            found = assert_equal(tenants)
            assert found == ({True, False} if is_active and state != ShardState.GONE else {False})
            assignment.delete()


def test_capabilities_of_several_shards_do_not_add_up(tenants: list[Tenant]) -> None:
    make_shard("one", "git")
    make_shard("two", "browser")
    assert assert_equal(tenants) == {True, False}


def scaled_pools() -> Iterator[Pool]:
    template = ShardTemplate.objects.create(name="t", capabilities=["git", "browser"])
    choices = product((None, RULES), (True, False), (None, template), ("", "memory"))
    for number, (rules, dry_run, of, provider) in enumerate(choices):
        yield Pool.objects.create(
            name=f"p{number}", scaling_rules=rules, scaling_dry_run=dry_run, template=of, provider=provider
        )


def test_pools_that_autoscaling_builds(tenants: list[Tenant]) -> None:
    answers: list[bool] = []
    for pool in scaled_pools():
        assert_equal(tenants)
        Assignment.objects.create(tenant=tenants[0], pool=pool)
        answers.append(True in assert_equal(tenants))
        for state, is_active in product((ShardState.READY, ShardState.GONE), (True, False)):
            shard, _ = make_shard(f"{pool.name}-0", "filesystem", pool=pool.name, state=state)
            Shard.objects.filter(pk=shard.pk).update(is_active=is_active)
            assert_equal(tenants)
            # An assignment to the name of a shard that does not exist any more counts for the next one.
            Assignment.objects.all().delete()
            Assignment.objects.create(tenant=tenants[1], shard=shard)
            assert_equal(tenants)
            Assignment.objects.all().delete()
            shard.delete()
            Assignment.objects.create(tenant=tenants[0], pool=pool)
        Assignment.objects.all().delete()
    assert answers.count(True) == 1
    assert not Job.objects.exists()
