"""Containment of attempts that may still run."""

from __future__ import annotations

import pytest

from jobs.lifecycle.reaper import recover
from jobs.models import Attempt
from myctobot.tenants.models import Tenant
from shards.models import Shard, ShardState, Suspension
from shards.operations.models import Operation, OperationKind
from tests.factories.control_plane import age, attempts_of, fresh, make_job, running_job

pytestmark = pytest.mark.django_db


@pytest.fixture
def contained(shard: Shard) -> Shard:
    Shard.objects.update(provider="memory", provider_ref="one.100")
    return shard


def unconfirmed_cancel(tenant: Tenant, key: str, other_job_on: Shard | None = None) -> str:
    """Let the cancel of a job time out, optionally with another job on a shard; return the job's error message."""
    job, _ = running_job(tenant, key)
    if other_job_on is not None:
        Attempt.objects.create(job=make_job(tenant), number=1, queue="shard.one", state="running", shard=other_job_on)
    type(job).objects.filter(pk=job.pk).update(cancel_requested_at=job.created_at)
    age(attempts_of(job)[0], "lease_until", 3600)
    recover()
    return fresh(job).error_message


def test_a_container_is_restarted(tenant: Tenant, key: str, contained: Shard) -> None:
    message = unconfirmed_cancel(tenant, key)
    assert message.endswith("The container of one is being restarted, which stops everything that still runs there.")
    operation = Operation.objects.get()
    assert (operation.kind, operation.requested_by) == (OperationKind.RESTART, "recovery")


def test_a_shard_with_other_jobs_is_drained(tenant: Tenant, key: str, contained: Shard) -> None:
    message = unconfirmed_cancel(tenant, key, other_job_on=contained)
    assert message.endswith("one runs other jobs, so it is drained; an operator restarts it when they have ended.")
    assert not Operation.objects.exists()
    contained.refresh_from_db()
    assert contained.state == ShardState.DRAINING
    assert "may still run there" in Suspension.objects.get().reason


def test_a_manually_installed_shard_is_not_touched(tenant: Tenant, key: str, shard: Shard) -> None:
    assert unconfirmed_cancel(tenant, key).endswith("Check the shard.")
    assert not Operation.objects.exists()
