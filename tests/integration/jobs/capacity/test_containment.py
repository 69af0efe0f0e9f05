"""What is done to the container of a shard on which something may still run."""

from __future__ import annotations

import pytest

from jobs.lifecycle.reaper import recover
from jobs.models.job import Attempt
from myctobot.tenants.models import Tenant
from shards.models.shard import Closure, Shard, ShardState
from shards.operations.models import Operation, OperationKind
from tests.factories.control_plane import age, attempts_of, fresh, make_job, running_job

pytestmark = pytest.mark.django_db


@pytest.fixture
def contained(shard: Shard) -> Shard:
    Shard.objects.update(provider="memory", provider_ref="one.100")
    return shard


def cancelled_and_silent(tenant: Tenant, key: str, beside: Shard | None = None) -> str:
    """A job whose cancel nobody confirmed, with another one beside it on a shard; returns what it is told."""
    job, _ = running_job(tenant, key)
    if beside is not None:
        Attempt.objects.create(job=make_job(tenant), number=1, queue="shard.one", state="running", shard=beside)
    type(job).objects.filter(pk=job.pk).update(cancel_requested_at=job.created_at)
    age(attempts_of(job)[0], "lease_until", 3600)
    recover()
    return fresh(job).error_message


def test_a_container_is_restarted(tenant: Tenant, key: str, contained: Shard) -> None:
    said = cancelled_and_silent(tenant, key)
    assert said.endswith("The container of one is being restarted, which ends whatever still runs there.")
    operation = Operation.objects.get()
    assert (operation.kind, operation.requested_by) == (OperationKind.RESTART, "recovery")


def test_not_at_the_expense_of_others(tenant: Tenant, key: str, contained: Shard) -> None:
    said = cancelled_and_silent(tenant, key, beside=contained)
    assert said.endswith("one runs other jobs, so it is drained; an operator restarts it when they are done.")
    assert not Operation.objects.exists()
    contained.refresh_from_db()
    assert contained.state == ShardState.DRAINING
    assert "may still run there" in Closure.objects.get().reason


def test_of_a_machine_set_up_by_hand_nothing_is_known(tenant: Tenant, key: str, shard: Shard) -> None:
    assert cancelled_and_silent(tenant, key).endswith("See to the shard.")
    assert not Operation.objects.exists()
