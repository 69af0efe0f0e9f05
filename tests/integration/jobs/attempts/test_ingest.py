"""Batches of events: stored once each, in order, cleaned, and from the present attempt alone."""

from __future__ import annotations

import json
from typing import Any

import pytest

from jobs.events.reader import read_events
from jobs.lifecycle.transitions import invalidate_attempt
from jobs.models import EventBatch, Job
from myctobot.contract.limits import MAX_BATCH_EVENTS, MAX_EVENT_BYTES, MAX_REQUEST_BYTES
from myctobot.contract.redaction import MASK, secret_encodings
from myctobot.contract.runner import CLAIM_HEADER
from myctobot.tenants.models import Tenant
from tests.factories.control_plane import (
    CANARIES,
    SECRETS,
    Runner,
    attempts_of,
    error_of,
    event,
    fresh,
    make_shard,
    running_job,
    whole_database,
)

pytestmark = pytest.mark.django_db


@pytest.fixture
def running(tenant: Tenant, key: str) -> tuple[Job, Runner]:
    return running_job(tenant, key, secrets=SECRETS)


@pytest.fixture
def job(running: tuple[Job, Runner]) -> Job:
    return running[0]


@pytest.fixture
def runner(running: tuple[Job, Runner]) -> Runner:
    return running[1]


def stored(job: Job) -> list[str]:
    return [event["data"]["text"] for event in read_events(job.pk, 0, 10_000)]


def test_a_batch_is_stored_and_the_lease_answered(job: Job, runner: Runner) -> None:
    answer = runner.events("a", "b").json()
    assert answer == {"next_seq": 3, "lease_s": 60, "cancel": False}
    assert stored(job) == ["a", "b"]
    assert [(batch.first_seq, batch.last_seq) for batch in EventBatch.objects.all()] == [(1, 2)]


def test_an_empty_batch_renews_the_lease_and_stores_nothing(job: Job, runner: Runner) -> None:
    before = attempts_of(job)[0].lease_until
    assert runner.events().json()["next_seq"] == 1
    after = attempts_of(job)[0].lease_until
    assert before is not None
    assert after is not None
    assert after > before
    assert not EventBatch.objects.exists()


def test_a_batch_sent_twice_is_stored_once(job: Job, runner: Runner) -> None:
    runner.events("a", "b")
    assert runner.events("a", "b", first=1).json()["next_seq"] == 3
    assert stored(job) == ["a", "b"]


def test_of_a_batch_that_overlaps_the_rest_is_stored(job: Job, runner: Runner) -> None:
    runner.events("a", "b")
    assert runner.events("b", "c", "d", first=2).json()["next_seq"] == 5
    assert stored(job) == ["a", "b", "c", "d"]


def test_what_is_stored_cannot_be_rewritten(job: Job, runner: Runner) -> None:
    runner.events("a")
    runner.events("forged", first=1)
    assert stored(job) == ["a"]


@pytest.mark.parametrize("first", [3, 10**30])
def test_a_gap_is_refused_with_the_number_expected(job: Job, runner: Runner, first: int) -> None:
    runner.events("a")
    response = runner.events("c", first=first)
    assert response.status_code == 409
    assert (error_of(response)["code"], error_of(response)["expected"]) == ("out_of_order", 2)
    assert stored(job) == ["a"]


@pytest.mark.parametrize("numbers", [[1, 3], [2], [1, 1], [2, 1], [1, 2, 4]])
def test_numbers_that_do_not_follow_each_other(job: Job, runner: Runner, numbers: list[int]) -> None:
    response = runner.events(first=1, events=[event(number) for number in numbers])
    assert response.status_code == 400
    assert list(error_of(response)["fields"]) == ["events"]
    assert stored(job) == []


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"kind": "no.such"}, "events.0.kind"),
        ({"kind": "end"}, "events.0.kind"),
        ({"kind": 5}, "events.0.kind"),
        ({"data": "text"}, "events.0.data"),
        ({"data": [1]}, "events.0.data"),
        ({"data": None}, "events.0.data"),
        ({"seq": 0}, "events.0.seq"),
        ({"seq": "x"}, "events.0.seq"),
        ({"at": "x" * 41}, "events.0.at"),
        ({"at": None}, "events.0.at"),
    ],
)
def test_a_malformed_event(job: Job, runner: Runner, change: dict[str, Any], field: str) -> None:
    response = runner.events(first=1, events=[{**event(1), **change}])
    assert response.status_code == 400
    assert list(error_of(response)["fields"]) == [field]
    assert stored(job) == []


@pytest.mark.parametrize("change", [{"phase": "dreaming"}, {"first_seq": 0}, {"events": {}}, {"attempt": None}])
def test_a_malformed_batch(job: Job, runner: Runner, change: dict[str, Any]) -> None:
    response = runner.events("a", **change)
    assert response.status_code == 400
    assert list(error_of(response)["fields"]) == list(change)


def test_too_many_events_at_once(job: Job, runner: Runner) -> None:
    assert runner.events(*["x"] * (MAX_BATCH_EVENTS + 1)).status_code == 400
    assert runner.events(*["x"] * MAX_BATCH_EVENTS).status_code == 200


def test_the_largest_event_is_taken_and_a_larger_body_is_not(job: Job, runner: Runner) -> None:
    assert runner.events("x" * (MAX_EVENT_BYTES - 100)).status_code == 200
    response = runner.events("x" * MAX_REQUEST_BYTES)
    assert response.status_code == 413
    assert error_of(response)["code"] == "request_too_large"


def test_the_phase_is_the_jobs(job: Job, runner: Runner) -> None:
    runner.events(phase="cloning")
    assert fresh(job).phase == "cloning"
    runner.events("no phase named")
    assert fresh(job).phase == "cloning"


class TestCleaning:
    @pytest.mark.parametrize("secret", CANARIES)
    def test_secrets_in_every_spelling(self, job: Job, runner: Runner, secret: str) -> None:
        spellings = sorted(secret_encodings(secret))
        runner.events(*spellings, {"nested": [{"deep": secret, secret: 1}]}, f"x{secret[:9]}\x00{secret[9:]}y")
        rows = whole_database()
        assert not [spelling for spelling in spellings if spelling in rows]
        assert MASK in rows

    def test_the_attempts_own_tokens(self, job: Job, runner: Runner) -> None:
        gateway = runner.claim().json()["gateway"]["token"]
        runner.events(f"env: {gateway}", f"claim: {runner.token}")
        assert gateway not in whole_database()
        assert runner.token not in whole_database()

    def test_nul_and_lone_surrogates(self, job: Job, runner: Runner) -> None:
        assert runner.events("a\x00b", "c\ud800d", {"k\x00": "\udfff"}).status_code == 200
        texts = [event["data"] for event in read_events(job.pk, 0, 10)]
        assert texts == [{"source": "agent", "text": "ab"}, {"source": "agent", "text": "c?d"}, {"k": "?"}]

    def test_numbers_that_json_does_not_know(self, job: Job, runner: Runner) -> None:
        body = {"attempt": 1, "first_seq": 1, "events": [event(1, {"cost": 12345})]}
        for number in (b"1e999", b"NaN", b"-Infinity"):
            raw = json.dumps(body).encode().replace(b"12345", number)
            path = f"/jobs/{job.public_id}/events"
            assert runner.post(path, raw, **{CLAIM_HEADER: runner.token}).status_code == 400

    def test_deep_nesting_is_cut_and_deeper_refused(self, job: Job, runner: Runner) -> None:
        def nested(levels: int) -> dict[str, Any]:
            value: Any = "leaf"
            for _ in range(levels):
                value = [value]
            return {"tree": value}

        assert runner.events(nested(80)).status_code == 200
        assert "nested too deep" in json.dumps(read_events(job.pk, 0, 1))
        assert runner.events(nested(120)).status_code == 400


class TestFencing:
    def test_without_the_claim_token(self, job: Job, runner: Runner) -> None:
        body = {"attempt": 1, "first_seq": 1, "events": [event(1)]}
        assert error_of(runner.post(f"/jobs/{job.public_id}/events", body))["code"] == "fenced"
        assert stored(job) == []

    def test_with_another_claim_token(self, job: Job, runner: Runner) -> None:
        runner.token = "u" * 40
        assert error_of(runner.events("x"))["code"] == "fenced"

    def test_from_another_shard_that_knows_the_token(self, job: Job, runner: Runner) -> None:
        _, other = make_shard("other")
        stranger = Runner(other, job, token=runner.token)
        assert error_of(stranger.events("x"))["code"] == "fenced"
        assert error_of(stranger.finish())["code"] == "fenced"
        assert fresh(job).status == "running"
        assert stored(job) == []

    @pytest.mark.parametrize("state", ["lost", "withdrawn"])
    def test_of_a_burnt_attempt(self, job: Job, runner: Runner, state: str) -> None:
        invalidate_attempt(attempts_of(job)[0], state, code="test", message="")
        assert error_of(runner.events("x"))["code"] == "fenced"
        assert error_of(runner.finish())["code"] == "fenced"
        assert stored(job) == []

    def test_after_the_end(self, job: Job, runner: Runner) -> None:
        runner.events("a")
        runner.finish()
        assert error_of(runner.events("late"))["code"] == "fenced"
        assert stored(job) == ["a"]

    @pytest.mark.parametrize("attempt", [2, 10**30])
    def test_of_an_attempt_to_come(self, job: Job, runner: Runner, attempt: int) -> None:
        runner.attempt = attempt
        assert error_of(runner.events("x"))["code"] == "fenced"

    def test_of_a_job_that_does_not_exist(self, job: Job, runner: Runner, key: str) -> None:
        response = Runner(key, Job(public_id="job_x")).events("x")
        assert response.status_code == 404
        assert error_of(response)["code"] == "unknown_job"

    def test_of_another_tenants_job_on_another_shard(self, job: Job, runner: Runner, tenant: Tenant) -> None:
        _, hostile = make_shard("hostile")
        theirs = Runner(hostile, job)
        for answer in (theirs.claim(), theirs.events("x"), theirs.finish("failed", error=None)):
            assert answer.status_code in (400, 409)
        assert fresh(job).status == "running"
