"""Storage of a job's secrets while it lives, and their removal afterwards."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import IntegrityError, transaction
from django.test import Client

from jobs.dispatch.round import dispatch_round
from jobs.lifecycle.cancel import cancel
from jobs.lifecycle.reaper import MAX_UNCLAIMED, recover
from jobs.lifecycle.secrets import JobSecrets
from jobs.models import Attempt, Job
from myctobot.lib.crypto import digest
from myctobot.tenants.models import ApiKey, Role, Secret, Tenant
from myctobot.tenants.secrets import UnknownSecret, store_secret
from shards.models import Shard
from tests.factories.control_plane import (
    CANARIES,
    JIRA_TOKEN,
    PROVIDER_KEY,
    REPO_TOKEN,
    SECRETS,
    Api,
    Runner,
    age,
    attempts_of,
    bound_to_repository,
    fresh,
    make_job,
    running_job,
    whole_database,
)

pytestmark = pytest.mark.django_db

PROMPT = "prompt-canary: please fix"
REQUEST: dict[str, Any] = {
    "task": {"type": "prompt", "prompt": PROMPT, "repo_url": "https://example.com/u/r", "repo_token": REPO_TOKEN},
    "capabilities": ["git"],
    "anthropic_api_key": PROVIDER_KEY,
    "context": {"jira_token": JIRA_TOKEN},
}


def rows_with(text: str) -> list[str]:
    return sorted({row.partition(":")[0] for row in whole_database().splitlines() if text in row})


def test_no_row_shows_a_secret_and_only_the_jobs_row_has_the_prompt(tenant: Tenant, key: str) -> None:
    job_id = Api.of(tenant).post("/jobs", REQUEST).json()["id"]
    dispatch_round()
    runner = Runner(key, Job.objects.get(public_id=job_id))
    runner.claim()
    runner.events("a line")
    assert [rows_with(canary) for canary in CANARIES] == [[], [], []]
    assert rows_with(runner.token) == []
    assert rows_with(PROMPT) == ["jobs_job"]


def test_no_answer_shows_a_secret(tenant: Tenant, key: str) -> None:
    api = Api.of(tenant)
    created = api.post("/jobs", REQUEST)
    path = f"/jobs/{created.json()['id']}"
    answers = [created, api.get(path), api.get("/jobs"), api.get(f"{path}/events"), api.post(f"{path}/cancel")]
    for answer in answers:
        assert answer.status_code == 200 or answer is created
        assert not [canary for canary in CANARIES if canary in answer.content.decode()]


def test_no_admin_page_shows_a_secret(tenant: Tenant, key: str) -> None:
    store_secret(tenant, "github", REPO_TOKEN, bound_to_repository())
    job, runner = running_job(tenant, key, secrets=SECRETS)
    admin = Client()
    admin.force_login(User.objects.create_superuser("root"))
    stored = Secret.objects.get()
    pages = ["jobs/job/", f"jobs/job/{job.pk}/change/", "shards/shard/", "shards/shard/1/change/"]
    pages += ["tenants/secret/", f"tenants/secret/{stored.pk}/change/", "tenants/apikey/", "tenants/tenant/"]
    shard = Shard.objects.get()
    hidden = [*CANARIES, job.encrypted_secrets, stored.sealed, key, shard.key_hash, digest(runner.token)]
    for page in pages:
        response = admin.get("/admin/" + page.replace("shard/1/", f"shard/{shard.pk}/"))
        assert response.status_code == 200, page
        assert not [text for text in hidden if text and text in response.content.decode()], page


def test_the_runner_gets_the_git_token_and_no_other(tenant: Tenant, key: str) -> None:
    make_job(tenant, secrets=SECRETS)
    dispatch_round()
    answer = Runner(key, Job.objects.get()).claim()
    assert answer.json()["secrets"] == {"repo_token": REPO_TOKEN}
    assert PROVIDER_KEY not in answer.content.decode()
    assert JIRA_TOKEN not in answer.content.decode()


def test_a_stored_secret_is_read_when_the_attempt_is_claimed(tenant: Tenant, key: str) -> None:
    store_secret(tenant, "github", "first-value-0123456789", bound_to_repository())
    job = make_job(tenant, secrets={"repo_token": {"secret": "github"}})
    store_secret(tenant, "github", "second-value-0123456789")
    dispatch_round()
    assert Runner(key, job).claim().json()["secrets"] == {"repo_token": "second-value-0123456789"}


def test_another_tenants_stored_secret_is_unknown(tenant: Tenant, shard: Shard) -> None:
    store_secret(Tenant.objects.create(slug="other", name="Other"), "github", REPO_TOKEN)
    body = {**REQUEST, "anthropic_api_key": {"secret": "github"}}
    assert Api.of(tenant).post("/jobs", body).status_code == 400


def test_a_stored_secret_that_is_gone_fails_the_job_with_the_reason(tenant: Tenant, key: str) -> None:
    store_secret(tenant, "github", REPO_TOKEN, bound_to_repository())
    job = make_job(tenant, secrets={"repo_token": {"secret": "github"}})
    Secret.objects.all().delete()
    dispatch_round()
    assert Runner(key, job).claim().status_code == 409
    ended = fresh(job)
    assert (ended.status, ended.error_code) == ("failed", "secret_unavailable")
    assert "github" in ended.error_message


def test_a_stored_secret_may_be_removed_while_a_job_that_has_it_runs(tenant: Tenant, key: str) -> None:
    store_secret(tenant, "github", REPO_TOKEN, bound_to_repository())
    _, runner = running_job(tenant, key, secrets={"repo_token": {"secret": "github"}, "jira_token": JIRA_TOKEN})
    Secret.objects.all().delete()
    assert runner.events(f"x {JIRA_TOKEN}").status_code == 200
    # The runner's mask alone is not trusted, so texts are withheld while a secret is unknown.
    assert runner.events(f"y {REPO_TOKEN}").status_code == 200
    assert runner.finish(result={"summary": REPO_TOKEN}).status_code == 200
    assert rows_with(JIRA_TOKEN) == rows_with(REPO_TOKEN) == []


def test_events_are_withheld_while_no_key_opens_the_secrets(tenant: Tenant, key: str, settings: Any) -> None:
    from cryptography.fernet import Fernet

    _, runner = running_job(tenant, key, secrets=SECRETS)
    settings.SECRETS_KEYS = [Fernet.generate_key().decode()]
    assert runner.events(f"x {REPO_TOKEN}").status_code == 200
    assert rows_with(REPO_TOKEN) == []
    assert len(rows_with("withheld")) == 1


def test_a_key_of_ours_that_is_gone_fails_the_job_with_the_reason(tenant: Tenant, key: str, settings: Any) -> None:
    from cryptography.fernet import Fernet

    job = make_job(tenant, secrets=SECRETS)
    dispatch_round()
    settings.SECRETS_KEYS = [Fernet.generate_key().decode()]
    assert Runner(key, job).claim().status_code == 409
    assert fresh(job).error_code == "secret_unavailable"


def test_a_stored_secret_that_no_key_opens_is_refused_by_its_field(tenant: Tenant, key: str, settings: Any) -> None:
    from cryptography.fernet import Fernet

    store_secret(tenant, "github", REPO_TOKEN, bound_to_repository())
    settings.SECRETS_KEYS = [Fernet.generate_key().decode()]
    response = Api.of(tenant).post("/jobs", {**REQUEST, "anthropic_api_key": {"secret": "github"}})
    assert response.status_code == 400
    assert list(response.json()["error"]["fields"]) == ["anthropic_api_key"]


def _complete(job: Job, runner: Runner) -> None:
    runner.finish(result={"summary": f"pushed with {REPO_TOKEN}"})


def _fail(job: Job, runner: Runner) -> None:
    runner.finish("failed", error={"code": "git", "message": f"bad token {REPO_TOKEN}", "retryable": False})


def _cancel(job: Job, runner: Runner) -> None:
    cancel(job.tenant, job.public_id)
    runner.finish("cancelled", proof={"processes_killed": 1, "processes_left": 0, "checked_at": "now"})


def _cancel_unproven(job: Job, runner: Runner) -> None:
    cancel(job.tenant, job.public_id)
    runner.finish("cancelled")


def _lose(job: Job, runner: Runner) -> None:
    Job.objects.filter(pk=job.pk).update(max_attempts=1)
    age(attempts_of(job)[-1], "lease_until", 31)
    recover()


ENDS: list[Callable[[Job, Runner], None]] = [_complete, _fail, _cancel, _cancel_unproven, _lose]


@pytest.mark.parametrize("end", ENDS)
def test_every_kind_of_end_wipes_the_secrets(tenant: Tenant, key: str, end: Callable[[Job, Runner], None]) -> None:
    job, runner = running_job(tenant, key, secrets=SECRETS)
    assert fresh(job).encrypted_secrets
    runner.events(*[f"leaked {canary}" for canary in CANARIES])
    end(job, runner)
    assert fresh(job).is_over
    assert fresh(job).encrypted_secrets is None
    assert Attempt.objects.get().gateway_token_hash is None
    assert [rows_with(canary) for canary in CANARIES] == [[], [], []]


def test_the_end_of_a_waiting_job_wipes_them_too(tenant: Tenant, shard: Shard) -> None:
    job = make_job(tenant, secrets=SECRETS)
    cancel(tenant, job.public_id)
    assert fresh(job).encrypted_secrets is None


def test_so_does_giving_up_on_shards_that_claim_nothing(tenant: Tenant, shard: Shard) -> None:
    job = make_job(tenant, secrets=SECRETS)
    for _ in range(MAX_UNCLAIMED):
        dispatch_round()
        age(attempts_of(job)[-1], "sent_at", 31)
        recover()
    assert (fresh(job).status, fresh(job).error_code, fresh(job).encrypted_secrets) == ("failed", "unclaimed", None)


def test_the_database_itself_refuses_secrets_in_a_job_that_has_ended(tenant: Tenant, shard: Shard) -> None:
    job = make_job(tenant, secrets=SECRETS)
    with pytest.raises(IntegrityError, match="ended_jobs_hold_no_secret"), transaction.atomic():
        Job.objects.filter(pk=job.pk).update(status="completed")


def test_the_sealed_secrets_of_one_job_open_no_other(tenant: Tenant, key: str) -> None:
    one, two = make_job(tenant, secrets=SECRETS), make_job(tenant)
    Job.objects.filter(pk=two.pk).update(encrypted_secrets=one.encrypted_secrets)
    dispatch_round()
    assert Runner(key, two).claim().status_code == 409
    assert fresh(two).error_code == "secret_unavailable"


def test_secrets_stay_out_of_what_a_request_looks_like_in_python(tenant: Tenant, shard: Shard) -> None:
    from jobs.lifecycle.job_request import JobRequest

    request = JobRequest(task={}, capabilities=["git"], priority=20, timeout_s=1, max_turns=1, secrets=SECRETS)
    assert not [canary for canary in CANARIES if canary in repr(request)]
    assert REPO_TOKEN not in json.dumps(make_job(tenant, secrets=SECRETS).named_secrets)


def test_secrets_are_opened_as_they_were_sealed(tenant: Tenant, shard: Shard) -> None:
    store_secret(tenant, "github", REPO_TOKEN, bound_to_repository())
    given = JobSecrets({"repo_token": {"secret": "github"}, "jira_token": JIRA_TOKEN})
    job = make_job(tenant)
    given.seal_into(job, Role.MEMBER)
    job.api_key = ApiKey.create(tenant, "test")[0]
    job.save()
    assert (job.inline_secrets, job.named_secrets) == (["jira_token"], {"repo_token": "github"})
    opened = JobSecrets.of(job)
    assert opened.values(job) == {"repo_token": REPO_TOKEN, "jira_token": JIRA_TOKEN}
    assert opened.values(job, ("jira_token", "unknown")) == {"jira_token": JIRA_TOKEN}
    assert opened.values_to_mask(tenant.pk) == [JIRA_TOKEN, REPO_TOKEN]
    assert JIRA_TOKEN not in repr(opened)


def test_a_job_without_secrets_stores_none(tenant: Tenant) -> None:
    job = Job(tenant=tenant, public_id="job_x", task={})
    JobSecrets({}).seal_into(job, Role.MEMBER)
    assert (job.encrypted_secrets, job.inline_secrets, job.named_secrets) == (None, [], {})
    assert JobSecrets.of(job).values(job) == {}


@pytest.mark.parametrize(
    ("name", "is_retry", "field"),
    [
        ("repo_token", False, "task.repo_token"),
        ("jira_token", False, "context.jira_token"),
        ("anthropic_api_key", False, "anthropic_api_key"),
        ("repo_token", True, "repo_token"),
    ],
)
def test_an_unknown_stored_secret_is_named_by_its_field(
    tenant: Tenant, name: str, field: str, *, is_retry: bool
) -> None:
    job = Job(tenant=tenant, public_id="job_x", task={})
    with pytest.raises(UnknownSecret) as refused:
        JobSecrets({name: {"secret": "none"}}).seal_into(job, Role.MEMBER, is_retry=is_retry)
    assert list(refused.value.fields) == [field]
    assert job.encrypted_secrets is None
