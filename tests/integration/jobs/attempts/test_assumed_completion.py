"""Completion of an attempt that the process knows and whose job has no secrets.

The first write assumes that nothing has changed since the claim; only a failed one reads why.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from jobs.attempts import fencing
from jobs.attempts.claim import claim_attempt
from jobs.attempts.fencing import FencedAttempt, SecretlessAttempts
from jobs.attempts.finish import finish_attempt
from jobs.callbacks.models import Callback
from jobs.errors import Fenced, OutOfOrder
from jobs.lifecycle import dead_runners
from jobs.lifecycle.cancel import cancel
from jobs.models import Job
from myctobot.contract.runner import ClaimRequest, FinishRequest, LeaseAnswer
from myctobot.lib.crypto import digest
from myctobot.tenants.models import Tenant
from shards.models import Shard
from tests.factories.control_plane import Runner, attempts_of, fresh, make_shard, running_job

pytestmark = pytest.mark.django_db
HOOK = "https://hooks.example.com/"


def callbacks(job: Job) -> list[str]:
    return list(Callback.objects.filter(job=job).order_by("pk").values_list("kind", flat=True))


@pytest.fixture
def shard() -> Shard:
    return make_shard("one", slots=1)[0]


@pytest.fixture
def runner(tenant: Tenant, shard: Shard) -> Runner:
    runner = running_job(tenant, shard.issue_key(), callback_url=HOOK)[1]
    runner.events("one")
    return runner


@pytest.fixture
def known(runner: Runner) -> SecretlessAttempts:
    """Attempts of a process that carried out the claim."""
    known = SecretlessAttempts()
    key_hash, request = caller(runner), ClaimRequest(attempt=runner.attempt, claim_token=runner.token)
    claim_attempt(key_hash, runner.job.public_id, request, known)
    return known


def caller(runner: Runner) -> str:
    return digest(runner.headers["Authorization"].removeprefix("Bearer "))


def finish(runner: Runner, known: SecretlessAttempts) -> LeaseAnswer:
    request = FinishRequest(
        attempt=runner.attempt,
        outcome="completed",
        final_seq=1,
        result={"summary": "Done."},
        error=None,
        proof=None,
    )
    return finish_attempt(caller(runner), runner.job.public_id, runner.token, request, known)


def test_is_one_write(runner: Runner, known: SecretlessAttempts, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[str] = []
    usual = fencing.load_fenced_attempt

    def count(key_hash: str, job_id: str, number: int, claim_token: str) -> FencedAttempt:
        reads.append(job_id)
        return usual(key_hash, job_id, number, claim_token)

    monkeypatch.setattr(fencing, "load_fenced_attempt", count)
    answer = finish(runner, known)
    job, (attempt,) = fresh(runner.job), attempts_of(runner.job)
    assert (job.status, job.result, attempt.state) == ("completed", {"summary": "Done."}, "ended")
    assert (callbacks(job), reads) == (["job.started", "job.completed"], [])
    assert finish(runner, known) == answer
    assert len(reads) == 1


def test_tells_the_runner_of_a_cancel(tenant: Tenant, runner: Runner, known: SecretlessAttempts) -> None:
    cancel(tenant, runner.job.public_id)
    answer = finish(runner, known)
    assert (answer["cancel"], fresh(runner.job).status) == (True, "completed")
    assert finish(runner, known) == answer


CHANGES: dict[str, tuple[Callable[[Job], object], type[Exception], str]] = {
    "the attempt was lost": (lambda job: dead_runners.lose_silent(attempts_of(job)[0]), Fenced, "queued"),
    "events are missing": (lambda job: Job.objects.update(next_seq=7), OutOfOrder, "running"),
    "the shard has another key": (lambda job: Shard.objects.get().issue_key(), Fenced, "running"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_is_refused_when(runner: Runner, known: SecretlessAttempts, change: str) -> None:
    happens, refusal, status = CHANGES[change]
    happens(runner.job)
    with pytest.raises(refusal):
        finish(runner, known)
    assert (fresh(runner.job).status, callbacks(runner.job)) == (status, ["job.started"])
