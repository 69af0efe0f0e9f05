"""The short serializer of a new job and ``JobSerializer`` give the same representation."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from jobs.api.request_serializers import JobRequestSerializer
from jobs.api.response_serializers import JobSerializer, serialize_new_job
from jobs.lifecycle.retry import retry
from jobs.lifecycle.submit import submit
from jobs.models import Job
from jobs.queue.waiting import CachedWaitExplainer
from myctobot.tenants.authentication import Caller
from myctobot.tenants.models import Role, Tenant
from tests.factories.control_plane import make_shard, make_tenant

pytestmark = pytest.mark.django_db
BODY: dict[str, Any] = {"task": {"type": "prompt", "prompt": "Say it: «Grüße»."}, "capabilities": ["git"]}
REPO = {"repo_url": "https://git.example.com/a.git", "branch": "work", "base_branch": "main"}
REQUESTS: dict[str, dict[str, Any]] = {
    "short": BODY,
    "with a branch": {**BODY, "task": {**BODY["task"], **REPO}},
    "delayed": {**BODY, "not_before": (timezone.now() + timedelta(days=1)).isoformat()},
    "not delayed any more": {**BODY, "not_before": (timezone.now() - timedelta(days=1)).isoformat()},
    "full": {
        "task": {"type": "implement_ticket", "prompt": "Do it.", "issue_key": "A-1", **REPO},
        "capabilities": ["filesystem", "git"],
        "priority": "high",
        "context": {"jira_cloud_id": "c", "additional_instructions": "Be brief."},
        "callback_url": "https://hooks.example.com/x",
        "timeout_s": 100,
        "queue_timeout_s": 60,
        "no_output_timeout_s": 50,
        "concurrency": {"key": "deploy", "limit": 3},
        "retry": {"max_attempts": 4, "on": ["agent", "timeout"]},
        "max_turns": 7,
        "on_failure": "push_wip",
        "anthropic_api_key": "sk-ant-canary-0123456789",
    },
}


@pytest.fixture
def caller() -> Caller:
    tenant: Tenant = make_tenant()
    make_shard()
    return Caller(tenant, Role.MEMBER)


def assert_same(job: Job) -> None:
    whole = dict(JobSerializer(Job.objects.get(pk=job.pk)).data)
    short = serialize_new_job(job, CachedWaitExplainer())
    assert list(short) == list(whole) == list(JobSerializer.Meta.fields)
    for name, value in whole.items():
        assert short[name] == value, name


@pytest.mark.parametrize("name", REQUESTS)
def test_every_field_of_a_new_job_is_the_same(caller: Caller, name: str) -> None:
    job, _ = submit(caller, JobRequestSerializer.read(REQUESTS[name]))
    assert_same(job)


def test_every_field_of_a_retry_is_the_same(caller: Caller) -> None:
    old, _ = submit(caller, JobRequestSerializer.read(BODY))
    Job.objects.filter(pk=old.pk).update(status="failed", finished_at=timezone.now())
    job, created = retry(caller, old.public_id, {})
    assert created
    assert_same(job)
