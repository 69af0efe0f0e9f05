"""A claim and a completed finish are a look and one write. What changes in between is seen by the write."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from jobs.attempts.claim import _answer, _claim, _finish
from jobs.attempts.claim import claim as attempts
from jobs.attempts.fencing import cleaner_of
from jobs.dispatch.round import dispatch_round
from jobs.lifecycle import reaper as recovery
from jobs.lifecycle.submit import cancel
from jobs.models.job import Attempt, Job
from myctobot.tenants.models import Tenant
from shards.lifecycle.suspensions import drain
from shards.models.shard import Shard

from .support import Runner, attempts_of, error_of, fresh, make_job, make_shard, running_job

pytestmark = pytest.mark.django_db
Change = Callable[[Job], object]


@pytest.fixture
def shard() -> Shard:
    return make_shard("one", slots=1)[0]


@pytest.fixture
def runner(tenant: Tenant, shard: Shard) -> Runner:
    """Of a job that was sent and not claimed yet."""
    job = make_job(tenant)
    dispatch_round()
    return Runner(shard.issue_key(), job)


def between(
    monkeypatch: pytest.MonkeyPatch, name: str, usual: Callable[..., Any], change: Callable[[], object]
) -> None:
    """Let something happen after the look and before the write, once."""
    changes = [change]

    def changing(*values: Any) -> Any:
        found = usual(*values)
        if changes:
            changes.pop()()
        return found

    monkeypatch.setattr(attempts, name, changing)


def forbid(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    def never(*_: Any) -> None:
        raise AssertionError(f"{name} was called")

    monkeypatch.setattr(attempts, name, never)


def count(monkeypatch: pytest.MonkeyPatch, name: str, usual: Callable[..., Any]) -> list[str]:
    calls: list[str] = []

    def counted(*values: Any) -> Any:
        calls.append(name)
        return usual(*values)

    monkeypatch.setattr(attempts, name, counted)
    return calls


def live(job: Job) -> list[str]:
    return [attempt.state for attempt in attempts_of(job) if attempt.ended_at is None]


class TestClaim:
    def test_takes_no_closer_look_when_all_is_well(self, runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
        forbid(monkeypatch, "_claim")
        assert runner.claim().status_code == 200
        assert (fresh(runner.job).status, live(runner.job)) == ("running", ["running"])

    def test_of_a_job_with_a_callback_takes_one(
        self, tenant: Tenant, shard: Shard, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        closer = count(monkeypatch, "_claim", _claim)
        running_job(tenant, shard.issue_key(), callback_url="https://hooks.example.com/")
        assert closer == ["_claim"]

    CHANGES: dict[str, tuple[Change, str, list[str]]] = {
        "cancelled": (lambda job: cancel(job.tenant, job.public_id), "cancelled", []),
        "withdrawn": (lambda job: recovery._withdraw(attempts_of(job)[0]), "queued", []),
        "on a shard that is drained": (lambda job: drain("one", by="ada", reason="disk"), "queued", []),
        "on a shard that is switched off": (lambda job: Shard.objects.update(is_active=False), "queued", []),
        "by a shard whose key was changed": (lambda job: Shard.objects.get().issue_key(), "queued", ["sent"]),
    }

    @pytest.mark.parametrize("change", CHANGES)
    def test_of_what_is_no_more(self, runner: Runner, monkeypatch: pytest.MonkeyPatch, change: str) -> None:
        happens, status, left = self.CHANGES[change]
        between(monkeypatch, "_answer", _answer, lambda: happens(runner.job))
        refused = runner.claim()
        assert refused.status_code in (401, 409)
        assert "secrets" not in refused.json()
        assert (fresh(runner.job).status, live(runner.job)) == (status, left)
        assert not Attempt.objects.filter(state="running").exists()

    def test_of_a_shard_that_has_filled_up(
        self, tenant: Tenant, runner: Runner, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fill() -> None:
            other = make_job(tenant)
            place = {"number": 1, "queue": "q", "shard_class": "c", "state": "running", "shard": Shard.objects.get()}
            Attempt.objects.create(job=other, **place)

        between(monkeypatch, "_answer", _answer, fill)
        refused = runner.claim()
        assert refused.status_code == 409
        assert "runs 1 of 1 jobs" in error_of(refused)["message"]
        assert live(runner.job) == []

    def test_twice_at_the_same_moment(self, runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
        twin = Runner(runner.headers["Authorization"].removeprefix("Bearer "), runner.job, token="u" * 40)
        answers: list[int] = []
        between(monkeypatch, "_answer", _answer, lambda: answers.append(twin.claim().status_code))
        assert runner.claim().status_code == 409
        assert answers == [200]
        assert live(runner.job) == ["running"]
        assert twin.finish().status_code == 200


class TestFinish:
    @pytest.fixture
    def runner(self, tenant: Tenant, shard: Shard) -> Runner:
        runner = running_job(tenant, shard.issue_key())[1]
        runner.events("one")
        return runner

    def test_takes_no_closer_look_when_all_is_well(self, runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
        forbid(monkeypatch, "_finish")
        assert runner.finish(result={"summary": "Done."}).status_code == 200
        job = fresh(runner.job)
        assert (job.status, job.result, job.sealed, job.has_log) == ("completed", {"summary": "Done."}, None, True)
        (attempt,) = attempts_of(job)
        assert (attempt.state, attempt.outcome, attempt.gateway_token_hash) == ("ended", "completed", None)

    @pytest.mark.parametrize(
        "facts", [{"callback_url": "https://hooks.example.com/"}, {"concurrency_key": "deploy"}], ids=str
    )
    def test_takes_one_when_others_are_to_be_told(
        self, tenant: Tenant, shard: Shard, monkeypatch: pytest.MonkeyPatch, facts: dict[str, str]
    ) -> None:
        closer = count(monkeypatch, "_finish", _finish)
        _, runner = running_job(tenant, shard.issue_key(), **facts)
        assert runner.finish().status_code == 200
        assert closer == ["_finish"]

    def test_of_an_attempt_that_is_lost(self, runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
        between(monkeypatch, "cleaner_of", cleaner_of, lambda: recovery._lose(attempts_of(runner.job)[0]))
        assert runner.finish().status_code == 409
        assert fresh(runner.job).status == "queued"
        assert [attempt.state for attempt in attempts_of(runner.job)] == ["lost"]

    def test_with_events_still_to_come(self, runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
        between(monkeypatch, "cleaner_of", cleaner_of, lambda: Job.objects.update(next_seq=7))
        refused = runner.finish()
        assert (refused.status_code, error_of(refused)["expected"]) == (409, 7)
        assert (fresh(runner.job).status, live(runner.job)) == ("running", ["running"])

    def test_wins_against_a_cancel_and_both_are_told_so(self, runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
        job = runner.job
        between(monkeypatch, "cleaner_of", cleaner_of, lambda: cancel(job.tenant, job.public_id))
        assert runner.finish().status_code == 200
        assert (fresh(job).status, live(job)) == ("completed", [])

    def test_twice_is_once(self, runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
        between(monkeypatch, "cleaner_of", cleaner_of, lambda: runner.finish(result={"summary": "First."}))
        assert runner.finish(result={"summary": "Second."}).status_code == 200
        assert fresh(runner.job).result == {"summary": "First."}
