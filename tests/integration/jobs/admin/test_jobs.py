"""Pages of jobs in the admin."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from jobs.dispatch.round import dispatch_round
from jobs.models import Job
from myctobot.tenants.models import Tenant
from tests.factories.control_plane import make_job, running_job

pytestmark = pytest.mark.django_db


@pytest.fixture
def admin(db: None) -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("root"))
    return client


def page_of(admin: Client, job: Job) -> str:
    page = admin.get(f"/admin/jobs/job/{job.pk}/change/").content.decode()
    return " ".join(re.sub(r"<[^>]+>", " ", page).split())


def test_the_page_of_a_job_shows_its_limits(admin: Client, tenant: Tenant, key: str) -> None:
    job = make_job(
        tenant,
        not_before=timezone.now() + timedelta(hours=2),
        queue_timeout_s=5432,
        no_output_timeout_s=123,
        concurrency_key="nightly",
        max_attempts=7,
        retry_on=["agent"],
    )
    page = page_of(admin, job)
    for fact in ("Queue timeout s 5432", "No output timeout s 123", "Concurrency key nightly", "Max attempts 7"):
        assert fact in page
    assert "Hold delayed" in page
    assert f"The job starts at {job.ready_at:%Y-%m-%d %H:%M:%S} UTC at the earliest. (parked)" in page


def test_the_page_shows_the_current_reason_for_waiting(admin: Client, tenant: Tenant, key: str) -> None:
    for _ in range(2):
        running_job(tenant, key)
    job = make_job(tenant)
    dispatch_round()
    assert "Why it waits The only healthy shard with git is busy. (class_busy)" in page_of(admin, job)


def test_the_page_shows_the_error_of_an_attempt(admin: Client, tenant: Tenant, key: str) -> None:
    job, runner = running_job(tenant, key)
    runner.finish("failed", error={"code": "disk_full", "message": "No space is left.", "retryable": True})
    page = page_of(admin, job)
    assert "disk_full No space is left." in page
    assert "Hold delayed" in page


def test_the_list_filters_held_jobs(admin: Client, tenant: Tenant, key: str) -> None:
    parked = make_job(tenant, not_before=timezone.now() + timedelta(hours=2))
    other = make_job(tenant)
    page = admin.get("/admin/jobs/job/?hold__exact=time").content.decode()
    assert parked.public_id in page
    assert other.public_id not in page
