"""New job that pushes the kept work of a finished one."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from django.conf import LazySettings

from jobs.dispatch.round import dispatch_round
from jobs.errors import IdempotencyMismatch, JobNotFinished, SecretsRequired, UnknownWork
from jobs.lifecycle.job_request import JobRequest
from jobs.lifecycle.push import push_again
from jobs.lifecycle.retry import retry
from jobs.models import Job, KeptWork
from myctobot.lib.crypto import keyed_digest
from myctobot.tenants.authentication import Caller
from myctobot.tenants.models import Role, Tenant
from tests.factories.control_plane import (
    PROVIDER_KEY,
    REPO_TOKEN,
    Runner,
    attempts_of,
    end_pause,
    error_of,
    fresh,
    running_job,
)
from tests.factories.kept_work import BASE, HEAD, PUSH_DENIED, job_with_work, manifest, read, store

pytestmark = pytest.mark.django_db


@pytest.fixture
def caller(tenant: Tenant) -> Caller:
    return Caller(tenant, Role.MEMBER)


def claim(job: Job, key: str) -> tuple[Runner, Any]:
    dispatch_round()
    runner = Runner(key, job)
    return runner, runner.claim()


@pytest.mark.parametrize("ready", [True, False])
def test_its_runner_gets_the_work_and_the_same_branch(caller: Caller, tenant: Tenant, key: str, ready: bool) -> None:
    old = job_with_work(tenant, key, ready=ready)
    job, created = push_again(caller, old.public_id, {})
    assert (created, job.retry_of, job.is_push) == (True, old, True)
    runner, answer = claim(job, key)
    assert answer.json()["work"]["head"] == HEAD
    assert answer.json()["task"]["branch"] == f"myctobot/{old.public_id}"
    # The agent's usage belongs to the job for which it worked.
    assert answer.json()["work"]["result"] == {"summary": "Done."}
    assert read(runner).status_code == 200


def test_it_needs_no_provider_key(caller: Caller, tenant: Tenant, key: str, settings: LazySettings) -> None:
    settings.GATEWAY_UPSTREAM = "anthropic"
    old = job_with_work(tenant, key, secrets={"anthropic_api_key": PROVIDER_KEY})
    job, _ = push_again(caller, old.public_id, {})
    assert (job.inline_secrets, job.named_secrets) == ([], {})


def test_it_needs_a_token_that_came_with_the_request_again(caller: Caller, tenant: Tenant, key: str) -> None:
    old = job_with_work(tenant, key, secrets={"repo_token": REPO_TOKEN, "anthropic_api_key": PROVIDER_KEY})
    with pytest.raises(SecretsRequired) as caught:
        push_again(caller, old.public_id, {})
    assert caught.value.data == {"secrets": ["repo_token"]}
    job, _ = push_again(caller, old.public_id, {"repo_token": REPO_TOKEN})
    assert job.inline_secrets == ["repo_token"]


def test_a_repeated_call_finds_the_job_and_a_retry_is_another_request(caller: Caller, tenant: Tenant, key: str) -> None:
    old = job_with_work(tenant, key)
    first, created = push_again(caller, old.public_id, {}, "once")
    again, repeated = push_again(caller, old.public_id, {}, "once")
    assert (first.pk, created, repeated) == (again.pk, True, False)
    with pytest.raises(IdempotencyMismatch):
        retry(caller, old.public_id, {}, "once")


def test_a_push_that_fails_is_tried_and_pushed_again_with_the_same_work(
    caller: Caller, tenant: Tenant, key: str
) -> None:
    # A person has to repeat this agent's work, but its push may be repeated.
    old = job_with_work(tenant, key)
    Job.objects.filter(pk=old.pk).update(capabilities=["git"])
    job, _ = push_again(caller, old.public_id, {})
    runner, _ = claim(job, key)
    runner.finish("failed", error={"code": "push_unconfirmed", "message": "Unknown.", "retryable": True})
    assert fresh(job).status == "queued"
    end_pause(job)
    dispatch_round()
    second = Runner(key, job, attempts_of(job)[-1].number, token="v" * 40)
    assert second.claim().json()["work"]["head"] == HEAD
    second.finish("failed", error=PUSH_DENIED)
    assert push_again(caller, job.public_id, {})[0].work_id == old.work_id


def test_a_retry_runs_the_agent(caller: Caller, tenant: Tenant, key: str) -> None:
    old = job_with_work(tenant, key)
    Job.objects.filter(pk=old.pk).update(on_failure="push_wip")
    job, _ = retry(caller, old.public_id, {})
    assert (job.work_id, job.is_push, job.on_failure) == (None, False, "push_wip")
    assert "work" not in claim(job, key)[1].json()


def test_without_work_there_is_nothing_to_push(caller: Caller, tenant: Tenant, key: str) -> None:
    job, runner = running_job(tenant, key)
    with pytest.raises(JobNotFinished):
        push_again(caller, job.public_id, {})
    store(runner, manifest=manifest(head=BASE))
    runner.finish("failed", error=PUSH_DENIED)
    with pytest.raises(UnknownWork, match="no commit on the job's branch"):
        push_again(caller, job.public_id, {})
    KeptWork.objects.all().delete()
    with pytest.raises(UnknownWork, match="no kept work"):
        push_again(caller, job.public_id, {})


def test_a_push_whose_work_is_gone_fails_and_runs_no_agent(caller: Caller, tenant: Tenant, key: str) -> None:
    old = job_with_work(tenant, key)
    job, _ = push_again(caller, old.public_id, {})
    KeptWork.objects.all().delete()
    _, refused = claim(job, key)
    assert (refused.status_code, error_of(refused)["code"]) == (409, "not_claimable")
    assert (fresh(job).status, fresh(job).error_code) == ("failed", "unknown_work")


def test_the_digest_of_an_earlier_releases_request_stays_the_same(settings: LazySettings) -> None:
    request = JobRequest(task={}, capabilities=["git"], priority=20, timeout_s=60, max_turns=5)
    old = {name: value for name, value in request.__dict__.items() if name not in ("work", "on_failure")}
    assert request.digest() == keyed_digest(settings.SECRET_KEY, json.dumps(old, sort_keys=True, default=str))
    others = [replace(request, work=1), replace(request, on_failure="push_wip")]
    assert len({request.digest(), *(other.digest() for other in others)}) == 3
