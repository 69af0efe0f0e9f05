"""Claim, events and finish are one read and one compare-and-set. A change in between refuses or repeats the write."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from jobs.attempts import claim, fencing, finish, ingest
from jobs.attempts.fencing import SecretlessAttempts, load_fenced_attempt
from jobs.callbacks.models import Callback
from jobs.dispatch.round import dispatch_round
from jobs.errors import Fenced, OutOfOrder
from jobs.events.reader import read_events
from jobs.lifecycle import dead_runners, reaper
from jobs.lifecycle.cancel import cancel
from jobs.models import Attempt, EventBatch, Job
from myctobot.contract.runner import EventsRequest, LeaseAnswer
from myctobot.lib.crypto import digest
from myctobot.tenants.models import Tenant
from shards.lifecycle.suspensions import drain
from shards.models import Shard
from tests.factories.control_plane import (
    SECRETS,
    Runner,
    attempts_of,
    error_of,
    event,
    fresh,
    make_job,
    make_shard,
    running_job,
)

pytestmark = pytest.mark.django_db
Change = Callable[[Job], object]
HOOK = "https://hooks.example.com/"
PROOF = {"processes_killed": 1, "processes_left": 0, "checked_at": "2030-01-01T00:00:00+00:00"}


@pytest.fixture
def shard() -> Shard:
    return make_shard("one", slots=1)[0]


@pytest.fixture
def runner(tenant: Tenant, shard: Shard) -> Runner:
    """Runner of a job that was sent and is not claimed yet."""
    job = make_job(tenant, callback_url=HOOK)
    dispatch_round()
    return Runner(shard.issue_key(), job)


def after_read(monkeypatch: pytest.MonkeyPatch, module: Any, name: str, change: Callable[[], object]) -> list[int]:
    """Let something happen once between the read and the write; return a list that grows by each read."""
    usual = getattr(module, name)
    reads: list[int] = []

    def read(*values: Any) -> Any:
        found = usual(*values)
        reads.append(len(reads))
        if len(reads) == 1:
            change()
        return found

    monkeypatch.setattr(module, name, read)
    return reads


def live(job: Job) -> list[str]:
    return [attempt.state for attempt in attempts_of(job) if attempt.ended_at is None]


def callbacks(job: Job) -> list[str]:
    return list(Callback.objects.filter(job=job).order_by("pk").values_list("kind", flat=True))


class TestClaim:
    def test_is_one_read_and_one_write(self, runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
        reads = after_read(monkeypatch, claim, "read_claim", lambda: None)
        assert runner.claim().status_code == 200
        assert (fresh(runner.job).status, live(runner.job), reads) == ("running", ["running"], [0])
        assert callbacks(runner.job) == ["job.started"]
        assert Shard.objects.get().is_used

    CHANGES: dict[str, tuple[Change, str, list[str]]] = {
        "the job is cancelled": (lambda job: cancel(job.tenant, job.public_id), "cancelled", []),
        "the attempt is withdrawn": (lambda job: reaper._withdraw(attempts_of(job)[0]), "queued", []),
        "the shard is drained": (lambda job: drain("one", by="ada", reason="disk"), "queued", []),
        "the shard is switched off": (lambda job: Shard.objects.update(is_active=False), "queued", []),
        "the shard becomes a spare": (lambda job: Shard.objects.update(is_spare=True), "queued", []),
        "the shard gets another key": (lambda job: Shard.objects.get().issue_key(), "queued", ["sent"]),
    }

    @pytest.mark.parametrize("change", CHANGES)
    def test_is_refused_when(self, runner: Runner, monkeypatch: pytest.MonkeyPatch, change: str) -> None:
        happens, status, left = self.CHANGES[change]
        after_read(monkeypatch, claim, "read_claim", lambda: happens(runner.job))
        refused = runner.claim()
        assert refused.status_code in (401, 409)
        assert "secrets" not in refused.json()
        assert (fresh(runner.job).status, live(runner.job)) == (status, left)
        assert fresh(runner.job).started_at is None
        assert not Attempt.objects.filter(state="running").exists()
        assert "job.started" not in callbacks(runner.job)
        assert not Shard.objects.get().is_used

    def test_is_refused_by_a_shard_that_has_filled_up(
        self, tenant: Tenant, runner: Runner, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fill() -> None:
            place = {"number": 1, "queue": "q", "shard_class": "c", "state": "running", "shard": Shard.objects.get()}
            Attempt.objects.create(job=make_job(tenant), **place)

        after_read(monkeypatch, claim, "read_claim", fill)
        refused = runner.claim()
        assert refused.status_code == 409
        assert "runs 1 of 1 jobs" in error_of(refused)["message"]
        assert live(runner.job) == []

    def test_succeeds_when_the_shard_took_no_jobs_only_at_the_read(
        self, runner: Runner, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        Shard.objects.update(is_active=False)
        reads = after_read(monkeypatch, claim, "read_claim", lambda: Shard.objects.update(is_active=True))
        # The reason was true when it was read, so the attempt goes back and the next round sends the job again.
        assert runner.claim().status_code == 409
        assert (live(runner.job), reads) == ([], [0])
        dispatch_round()
        assert live(runner.job) == ["sent"]

    def test_by_two_runners_at_the_same_moment_has_one_winner(
        self, runner: Runner, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        twin = Runner(runner.headers["Authorization"].removeprefix("Bearer "), runner.job, token="u" * 40)
        answers: list[int] = []
        after_read(monkeypatch, claim, "read_claim", lambda: answers.append(twin.claim().status_code))
        assert runner.claim().status_code == 409
        assert answers == [200]
        assert live(runner.job) == ["running"]
        assert twin.finish().status_code == 200

    def test_repeated_by_its_runner_at_the_same_moment_gets_one_answer(
        self, runner: Runner, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        answers: list[Any] = []
        after_read(monkeypatch, claim, "read_claim", lambda: answers.append(runner.claim().json()))
        assert runner.claim().json() == answers[0]
        assert callbacks(runner.job) == ["job.started"]

    def test_that_is_repeated_after_the_attempt_was_lost_is_refused(
        self, runner: Runner, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        runner.claim()
        after_read(monkeypatch, claim, "read_claim", lambda: dead_runners.lose_silent(attempts_of(runner.job)[0]))
        assert runner.claim().status_code == 409
        assert live(runner.job) == []

    def test_gives_up_when_every_read_is_outdated(self, runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(claim, "_take", lambda *_: False)
        assert error_of(runner.claim())["code"] == "not_claimable"


class TestFinish:
    @pytest.fixture
    def runner(self, tenant: Tenant, shard: Shard) -> Runner:
        runner = running_job(tenant, shard.issue_key(), callback_url=HOOK, secrets=SECRETS)[1]
        runner.events("one")
        return runner

    def test_is_one_read_and_one_write(self, runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
        reads = after_read(monkeypatch, fencing, "load_fenced_attempt", lambda: None)
        assert runner.finish(result={"summary": "Done."}).status_code == 200
        job, (attempt,) = fresh(runner.job), attempts_of(runner.job)
        assert (job.status, job.result, job.encrypted_secrets) == ("completed", {"summary": "Done."}, None)
        assert (attempt.state, attempt.outcome, attempt.gateway_token_hash) == ("ended", "completed", None)
        assert (job.has_log, callbacks(job), reads) == (True, ["job.started", "job.completed"], [0])

    def test_releases_the_next_job_with_its_key(self, tenant: Tenant) -> None:
        _, key = make_shard("two", "git", "browser", slots=2)
        wanted: dict[str, Any] = {"capabilities": ["browser", "git"], "concurrency_key": "deploy"}
        first, runner = running_job(tenant, key, **wanted)
        behind = [make_job(tenant, **wanted) for _ in range(2)]
        dispatch_round()
        assert [fresh(job).hold for job in behind] == ["key", "key"]
        assert runner.finish().status_code == 200
        assert [fresh(job).hold for job in (first, *behind)] == ["", "", "key"]

    def test_of_a_lost_attempt_is_refused(self, runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
        after_read(
            monkeypatch, fencing, "load_fenced_attempt", lambda: dead_runners.lose_silent(attempts_of(runner.job)[0])
        )
        assert runner.finish().status_code == 409
        assert fresh(runner.job).status == "queued"
        assert [attempt.state for attempt in attempts_of(runner.job)] == ["lost"]
        assert callbacks(runner.job) == ["job.started"]

    def test_with_events_still_to_come_is_refused(self, runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
        after_read(monkeypatch, fencing, "load_fenced_attempt", lambda: Job.objects.update(next_seq=7))
        refused = runner.finish()
        assert (refused.status_code, error_of(refused)["expected"]) == (409, 7)
        assert (fresh(runner.job).status, live(runner.job)) == ("running", ["running"])

    def test_by_a_shard_whose_key_has_changed_is_refused(self, runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
        after_read(monkeypatch, fencing, "load_fenced_attempt", lambda: Shard.objects.get().issue_key())
        assert runner.finish().status_code == 401
        assert (fresh(runner.job).status, live(runner.job)) == ("running", ["running"])

    def test_as_completed_wins_against_a_cancel(self, runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
        job = runner.job
        after_read(monkeypatch, fencing, "load_fenced_attempt", lambda: cancel(job.tenant, job.public_id))
        assert runner.finish().status_code == 200
        assert (fresh(job).status, live(job)) == ("completed", [])

    def test_as_failed_knows_of_a_cancel_of_that_moment(self, runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
        job = runner.job
        reads = after_read(monkeypatch, fencing, "load_fenced_attempt", lambda: cancel(job.tenant, job.public_id))
        error = {"code": "disk_full", "message": "No space.", "retryable": True}
        assert runner.finish("failed", error=error).status_code == 200
        assert (fresh(job).status, fresh(job).error_message, len(reads)) == ("failed", "No space.", 2)

    def test_as_cancelled_knows_of_a_cancel_of_that_moment(
        self, runner: Runner, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        job = runner.job
        after_read(monkeypatch, fencing, "load_fenced_attempt", lambda: cancel(job.tenant, job.public_id))
        assert runner.finish("cancelled", proof=PROOF).status_code == 200
        assert (fresh(job).status, callbacks(job)) == ("cancelled", ["job.started", "job.cancelled"])

    def test_twice_at_the_same_moment_is_once(self, runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
        first = {"summary": "First."}
        after_read(monkeypatch, fencing, "load_fenced_attempt", lambda: runner.finish(result=first))
        assert runner.finish(result={"summary": "Second."}).status_code == 200
        assert fresh(runner.job).result == first
        assert callbacks(runner.job) == ["job.started", "job.completed"]

    def test_gives_up_when_every_read_is_outdated(self, runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(finish, "_end", lambda *_: False)
        assert error_of(runner.finish())["code"] == "fenced"


class TestEvents:
    @pytest.fixture
    def known(self) -> SecretlessAttempts:
        return SecretlessAttempts()

    @pytest.fixture(params=[{}, {"secrets": SECRETS}], ids=["without secrets", "with secrets"])
    def runner(self, request: pytest.FixtureRequest, tenant: Tenant, shard: Shard, known: SecretlessAttempts) -> Runner:
        """Runner whose first batch is stored, so that its attempt is known."""
        runner = running_job(tenant, shard.issue_key(), **request.param)[1]
        self.append(runner, known, 1, "one")
        return runner

    def append(
        self, runner: Runner, known: SecretlessAttempts, first: int, *texts: str, phase: str | None = None
    ) -> LeaseAnswer:
        events: Any = [event(first + index, text) for index, text in enumerate(texts)]
        body = EventsRequest(attempt=runner.attempt, first_seq=first, events=events)
        if phase:
            body["phase"] = phase
        key = runner.headers["Authorization"].removeprefix("Bearer ")
        return ingest.append_events(digest(key), runner.job.public_id, runner.token, body, known)

    def stored(self, job: Job) -> list[str]:
        return [each["data"]["text"] for each in read_events(job.pk, 0, 100)]

    def test_of_a_known_attempt_need_no_read(
        self, runner: Runner, known: SecretlessAttempts, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        reads = after_read(monkeypatch, fencing, "load_fenced_attempt", lambda: None)
        assert self.append(runner, known, 2, "two")["next_seq"] == 3
        assert self.stored(runner.job) == ["one", "two"]
        # Secrets are read for each batch, because they do not stay in memory.
        assert len(reads) == (1 if fresh(runner.job).encrypted_secrets else 0)

    @pytest.mark.parametrize(
        ("first", "texts", "expected"),
        [
            (1, ["one"], ["one"]),
            (1, ["one", "two"], ["one", "two"]),
            (2, ["two", "three"], ["one", "two", "three"]),
            (1, [], ["one"]),
            (2, [], ["one"]),
        ],
    )
    def test_are_stored_once(
        self, runner: Runner, known: SecretlessAttempts, first: int, texts: list[str], expected: list[str]
    ) -> None:
        assert self.append(runner, known, first, *texts)["next_seq"] == len(expected) + 1
        assert self.stored(runner.job) == expected

    @pytest.mark.parametrize("first", [3, 2**63, 10**30])
    def test_after_a_gap_are_refused(self, runner: Runner, known: SecretlessAttempts, first: int) -> None:
        with pytest.raises(OutOfOrder):
            self.append(runner, known, first, "late")
        assert self.stored(runner.job) == ["one"]

    def test_change_the_phase_without_events_too(self, runner: Runner, known: SecretlessAttempts) -> None:
        self.append(runner, known, 2, phase="agent")
        assert fresh(runner.job).phase == "agent"
        self.append(runner, known, 2, "two")
        assert fresh(runner.job).phase == "agent"

    def test_that_another_call_stored_in_between_are_skipped(
        self, runner: Runner, known: SecretlessAttempts, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        known = SecretlessAttempts()
        after_read(monkeypatch, fencing, "load_fenced_attempt", lambda: self.append(runner, known, 2, "two"))
        assert self.append(runner, SecretlessAttempts(), 2, "two", "three")["next_seq"] == 4
        assert self.stored(runner.job) == ["one", "two", "three"]
        assert [batch.first_seq for batch in EventBatch.objects.order_by("first_seq")] == [1, 2, 3]

    CHANGES: dict[str, Change] = {
        "the attempt is lost": lambda job: dead_runners.lose_silent(attempts_of(job)[0]),
        "the job ended": lambda job: Job.objects.update(status="failed", encrypted_secrets=None),
        "the shard got another key": lambda job: Shard.objects.get().issue_key(),
        "another attempt is the present one": lambda job: Job.objects.update(attempt_number=2),
    }

    @pytest.mark.parametrize("when", ["before", "between read and write"])
    @pytest.mark.parametrize("change", CHANGES)
    def test_are_fenced_once(
        self, runner: Runner, known: SecretlessAttempts, monkeypatch: pytest.MonkeyPatch, change: str, when: str
    ) -> None:
        if when == "before":
            self.CHANGES[change](runner.job)
        else:
            known = SecretlessAttempts()
            after_read(monkeypatch, fencing, "load_fenced_attempt", lambda: self.CHANGES[change](runner.job))
        lease = attempts_of(runner.job)[0].lease_until
        with pytest.raises(Fenced):
            self.append(runner, known, 2, "late", phase="agent")
        assert self.stored(runner.job) == ["one"]
        assert (fresh(runner.job).phase != "agent", attempts_of(runner.job)[0].lease_until) == (True, lease)

    def test_of_a_job_with_secrets_are_never_stored_by_an_assumption(
        self, tenant: Tenant, known: SecretlessAttempts
    ) -> None:
        _, key = make_shard("two", "git", "browser")
        runner = running_job(tenant, key, capabilities=["browser", "git"])[1]
        self.append(runner, known, 1, "one")
        Job.objects.filter(pk=runner.job.pk).update(encrypted_secrets="sealed by another release")
        fenced = known.assume(digest(key), runner.job.public_id, runner.attempt, runner.token, 2)
        assert fenced is not None
        events: Any = [event(2, "two")]
        batch = ingest._new_batch(fenced, EventsRequest(attempt=1, first_seq=2, events=events))
        assert ingest._store(fenced, batch) is None
        assert self.stored(runner.job) == ["one"]

    def test_of_another_token_are_never_assumed(self, runner: Runner, known: SecretlessAttempts) -> None:
        runner.token = "u" * 40
        with pytest.raises(Fenced):
            self.append(runner, known, 2, "forged")

    def test_beyond_the_bound_drop_the_middle_in_the_same_transaction(
        self, runner: Runner, known: SecretlessAttempts, settings: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        settings.JOB_LOG_MAX_BYTES = 2_000
        for number in range(2, 8):
            self.append(runner, known, number, "x" * 500)
        assert fresh(runner.job).log_bytes <= 2_000
        before = self.rows()

        def fail(*_: Any) -> None:
            raise RuntimeError

        monkeypatch.setattr(ingest, "truncate_middle", fail)
        with pytest.raises(RuntimeError):
            self.append(runner, known, 8, "x" * 500)
        assert (self.rows(), fresh(runner.job).next_seq) == (before, 8)

    def rows(self) -> list[tuple[int, int]]:
        return list(EventBatch.objects.order_by("first_seq").values_list("first_seq", "last_seq"))

    def test_loading_is_refused_for_strangers(self, runner: Runner) -> None:
        with pytest.raises(Fenced):
            load_fenced_attempt("0" * 64, runner.job.public_id, 1, runner.token)
