"""End of an attempt and of its job."""

from __future__ import annotations

from typing import Any

import pytest

from jobs.attempts.gateway_grants import find_grant
from jobs.lifecycle.cancel import cancel
from jobs.models import Job
from myctobot.tenants.models import Tenant
from tests.factories.control_plane import (
    REPO_TOKEN,
    SECRETS,
    Runner,
    attempts_of,
    error_of,
    fresh,
    running_job,
)

pytestmark = pytest.mark.django_db
PROOF = {"processes_killed": 3, "processes_left": 0, "checked_at": "2030-01-01T00:00:00+00:00"}
ERROR = {"code": "clone_failed", "message": "No such repository.", "retryable": True}


@pytest.fixture
def running(tenant: Tenant, key: str) -> tuple[Job, Runner]:
    return running_job(tenant, key, secrets=SECRETS)


@pytest.fixture
def job(running: tuple[Job, Runner]) -> Job:
    return running[0]


@pytest.fixture
def runner(running: tuple[Job, Runner]) -> Runner:
    return running[1]


def test_completed(job: Job, runner: Runner) -> None:
    runner.events("a")
    assert runner.finish(result={"branch": "x", "sha": "y"}).status_code == 200
    ended = fresh(job)
    assert (ended.status, ended.phase, ended.result) == ("completed", "", {"branch": "x", "sha": "y"})
    assert (ended.error_code, attempts_of(job)[0].state, attempts_of(job)[0].outcome) == ("", "ended", "completed")
    assert ended.finished_at is not None


def test_failed_with_its_reason(job: Job, runner: Runner) -> None:
    Job.objects.update(max_attempts=1)
    runner.finish("failed", error=ERROR)
    ended = fresh(job)
    assert (ended.status, ended.error_code, ended.error_retryable) == ("failed", "clone_failed", True)
    assert attempts_of(job)[0].error_message == "No such repository."


def test_a_failure_of_the_shards_is_tried_again(job: Job, runner: Runner) -> None:
    runner.finish("failed", error=ERROR)
    again = fresh(job)
    assert (again.status, again.hold, again.phase, again.finished_at) == ("queued", "time", "", None)
    assert again.waiting_reason == "No such repository. The job is tried again in 5 s, attempt 2 of 2."
    assert attempts_of(job)[0].outcome == "failed"


def test_a_job_waits_longer_for_a_busy_provider(job: Job, runner: Runner) -> None:
    runner.finish("failed", error={"code": "model_unavailable", "message": "The provider is busy.", "retryable": True})
    again = fresh(job)
    assert (again.status, again.hold) == ("queued", "time")
    assert again.waiting_reason == "The provider is busy. The job is tried again in 120 s, attempt 2 of 2."


def test_a_failure_of_the_requests_is_not(job: Job, runner: Runner) -> None:
    runner.finish("failed", error={**ERROR, "retryable": False})
    assert fresh(job).status == "failed"


def test_a_failure_that_meets_a_cancel_is_the_end(job: Job, runner: Runner, tenant: Tenant) -> None:
    cancel(tenant, job.public_id)
    runner.finish("failed", error=ERROR)
    assert (fresh(job).status, fresh(job).error_message) == ("failed", "No such repository.")


def test_an_error_with_a_success_is_ignored(job: Job, runner: Runner) -> None:
    runner.finish("completed", error=ERROR)
    assert (fresh(job).status, fresh(job).error_code) == ("completed", "")


def test_twice_is_the_same_as_once(job: Job, runner: Runner) -> None:
    runner.events("a")
    first = runner.finish(result={"n": 1})
    second = runner.finish("failed", error=ERROR, result={"n": 2})
    assert (first.status_code, second.status_code) == (200, 200)
    assert first.json() == second.json()
    assert (fresh(job).status, fresh(job).result) == ("completed", {"n": 1})


@pytest.mark.parametrize("final_seq", [0, 1, 3, 10**30])
def test_with_events_missing_or_too_many(job: Job, runner: Runner, final_seq: int) -> None:
    runner.events("a", "b")
    response = runner.finish(final_seq=final_seq)
    assert response.status_code == 409
    assert (error_of(response)["code"], error_of(response)["expected"]) == ("out_of_order", 3)
    assert fresh(job).status == "running"


class TestCancelled:
    def test_when_asked_for_and_proven(self, job: Job, runner: Runner, tenant: Tenant) -> None:
        cancel(tenant, job.public_id)
        runner.finish("cancelled", proof=PROOF)
        assert (fresh(job).status, fresh(job).error_code) == ("cancelled", "cancelled")
        assert attempts_of(job)[0].proof == PROOF

    @pytest.mark.parametrize("proof", [None, {**PROOF, "processes_left": 2}], ids=["no proof", "two left"])
    def test_when_not_proven_it_is_a_failure(
        self, job: Job, runner: Runner, tenant: Tenant, proof: dict[str, Any] | None
    ) -> None:
        cancel(tenant, job.public_id)
        runner.finish("cancelled", proof=proof)
        assert (fresh(job).status, fresh(job).error_code) == ("failed", "cancel_unproven")
        assert "may still run" in fresh(job).error_message

    def test_a_cancel_without_a_request_is_a_failure(self, job: Job, runner: Runner) -> None:
        Job.objects.update(max_attempts=1)
        runner.finish("cancelled", proof=PROOF)
        assert (fresh(job).status, fresh(job).error_code) == ("failed", "interrupted")

    def test_a_job_that_completes_before_it_hears_of_the_cancel(self, job: Job, runner: Runner, tenant: Tenant) -> None:
        cancel(tenant, job.public_id)
        runner.finish()
        assert fresh(job).status == "completed"


class TestGatewayGrant:
    def test_it_lives_with_the_attempt(self, job: Job, runner: Runner) -> None:
        token = runner.claim().json()["gateway"]["token"]
        grant = find_grant(token)
        assert grant is not None
        assert (grant.job_id, grant.attempt) == (job.public_id, 1)
        assert grant.anthropic_key() == SECRETS["anthropic_api_key"]
        runner.finish()
        assert find_grant(token) is None

    def test_a_wanted_cancel_ends_it_at_once(self, job: Job, runner: Runner, tenant: Tenant) -> None:
        token = runner.claim().json()["gateway"]["token"]
        cancel(tenant, job.public_id)
        assert find_grant(token) is None

    @pytest.mark.parametrize("token", ["", "mctg_x", REPO_TOKEN])
    def test_other_tokens_grant_nothing(self, job: Job, token: str) -> None:
        assert find_grant(token) is None


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"outcome": "lost"}, "outcome"),
        ({"outcome": "failed"}, "error"),
        ({"outcome": "failed", "error": {}}, "error.code"),
        ({"outcome": "failed", "error": {**ERROR, "code": "not a slug"}}, "error.code"),
        ({"outcome": "failed", "error": {**ERROR, "message": "x" * 4001}}, "error.message"),
        ({"result": "text"}, "result"),
        ({"result": {"x": "y" * 300_000}}, "result"),
        ({"final_seq": -1}, "final_seq"),
        ({"proof": {"processes_left": 0}}, "proof.processes_killed"),
        ({"proof": {**PROOF, "processes_left": -1}}, "proof.processes_left"),
    ],
)
def test_a_malformed_finish(job: Job, runner: Runner, change: dict[str, Any], field: str) -> None:
    response = runner.finish(**change)
    assert response.status_code == 400
    assert field in error_of(response)["fields"]
    assert fresh(job).status == "running"


def test_secrets_in_the_result_are_masked(job: Job, runner: Runner) -> None:
    proof = {**PROOF, "checked_at": REPO_TOKEN}
    runner.finish("failed", error={**ERROR, "message": f"with {REPO_TOKEN}"}, result={"s": REPO_TOKEN}, proof=proof)
    ended, (attempt,) = fresh(job), attempts_of(job)
    assert REPO_TOKEN not in f"{ended.error_message} {ended.result} {attempt.error_message} {attempt.proof}"
