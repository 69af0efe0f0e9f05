"""Audit log of the actions of people on jobs: one entry for each that changes something."""

from __future__ import annotations

import pytest
from django.core.management import call_command

from myctobot.tenants.models import AuditEntry, Tenant
from shards.models import Shard
from tests.factories.control_plane import Api, make_job, running_job
from tests.factories.personas import Persona

pytestmark = pytest.mark.django_db


def entries() -> list[tuple[str, str, str]]:
    return list(AuditEntry.objects.order_by("pk").values_list("actor", "action", "subject"))


def test_a_cancel_by_a_member_on_the_page(owner: Persona, shard: Shard) -> None:
    job = make_job(owner.tenant)
    for _ in range(2):
        owner.browser().post(f"/jobs/{job.public_id}/cancel/")
    assert entries() == [("owner", "job.cancel_requested", f"job/{job.public_id}")]
    assert AuditEntry.objects.get().details == {"status": "queued"}
    assert AuditEntry.objects.get().tenant == owner.tenant


def test_a_cancel_by_a_key(tenant: Tenant, key: str) -> None:
    job, _ = running_job(tenant, key)
    api = Api.of(tenant)
    for _ in range(2):
        assert api.post(f"/jobs/{job.public_id}/cancel").status_code == 202
    assert entries() == [("API key test", "job.cancel_requested", f"job/{job.public_id}")]


def test_a_refused_cancel_leaves_none(tenant: Tenant, key: str) -> None:
    job, runner = running_job(tenant, key)
    runner.finish()
    assert Api.of(tenant).post(f"/jobs/{job.public_id}/cancel").status_code == 409
    assert entries() == []


def test_a_requeue_by_an_operator(tenant: Tenant, key: str) -> None:
    job, _ = running_job(tenant, key)
    call_command("jobs", "requeue", job.public_id, "--by", "olga")
    assert entries() == [("olga", "job.requeued", f"job/{job.public_id}")]
