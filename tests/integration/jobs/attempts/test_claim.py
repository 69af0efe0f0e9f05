"""Claiming an attempt: exactly one runner gets it."""

from __future__ import annotations

from threading import Barrier, Thread

import pytest
from django.db import connection

from jobs.dispatch.round import dispatch_round
from jobs.lifecycle.cancel import cancel
from jobs.models import Attempt, Job
from myctobot.tenants.models import Tenant
from shards.models import Shard, ShardState
from tests.factories.control_plane import (
    Runner,
    attempts_of,
    error_of,
    fresh,
    make_job,
    make_shard,
    running_job,
)

pytestmark = pytest.mark.django_db


@pytest.fixture
def sent(tenant: Tenant, shard: Shard) -> Job:
    job = make_job(tenant, context={"additional_instructions": "Tabs."})
    dispatch_round()
    return job


def test_the_answer_is_all_that_a_runner_needs(sent: Job, key: str) -> None:
    answer = Runner(key, sent).claim().json()
    assert answer["job_id"] == sent.public_id
    assert (answer["attempt"], answer["next_seq"], answer["timeout_s"], answer["max_turns"]) == (1, 1, 600, 5)
    assert answer["task"] == {
        **sent.task,
        "branch": f"myctobot/{sent.public_id}",
        "additional_instructions": "Tabs.",
    }
    assert answer["gateway"]["token"].startswith("mctg_")
    assert answer["secrets"] == {}
    assert (answer["on_failure"], answer["work_max_mb"], "work" in answer) == ("keep", 64, False)


def test_the_job_runs_then(sent: Job, key: str, shard: Shard) -> None:
    Runner(key, sent).claim()
    (attempt,) = attempts_of(sent)
    job = fresh(sent)
    assert (job.status, job.phase, job.waiting_code) == ("running", "preparing", "")
    assert job.started_at is not None
    assert (attempt.state, attempt.shard) == ("running", shard)


def test_a_repeated_claim_with_the_same_token_gets_the_same_answer(sent: Job, key: str) -> None:
    runner = Runner(key, sent)
    first, second = runner.claim(), runner.claim()
    assert (first.status_code, second.status_code) == (200, 200)
    assert first.json() == second.json()


def test_another_token_is_refused(sent: Job, key: str) -> None:
    Runner(key, sent).claim()
    response = Runner(key, sent, token="u" * 40).claim()
    assert response.status_code == 409
    assert error_of(response)["code"] == "not_claimable"


def test_the_same_token_from_another_shard_is_refused(sent: Job, key: str) -> None:
    _, other = make_shard("other")
    Runner(key, sent).claim()
    assert Runner(other, sent).claim().status_code == 409


@pytest.mark.django_db(transaction=True)
def test_of_claims_at_once_exactly_one_wins(tenant: Tenant) -> None:
    keys = [make_shard(f"s{number}")[1] for number in range(2)]
    job = make_job(tenant)
    dispatch_round()
    start, codes = Barrier(6), []

    def claim(number: int) -> None:
        start.wait(10)
        codes.append(Runner(keys[number % 2], job, token=f"{number}" * 40).claim().status_code)
        connection.close()

    threads = [Thread(target=claim, args=[number]) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(codes) == [200] + [409] * 5
    assert Attempt.objects.filter(state="running").count() == 1


@pytest.mark.django_db(transaction=True)
def test_claims_at_once_do_not_overfill_a_shard(tenant: Tenant) -> None:
    shard, key = make_shard(slots=4)
    jobs = [make_job(tenant) for _ in range(4)]
    dispatch_round()
    Shard.objects.filter(pk=shard.pk).update(max_concurrent_jobs=1)
    start, codes = Barrier(4), []

    def claim(job: Job) -> None:
        start.wait(10)
        codes.append(Runner(key, job).claim().status_code)
        connection.close()

    threads = [Thread(target=claim, args=[job]) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(codes) == [200, 409, 409, 409]


def test_a_shard_that_does_not_consume_the_queue_is_refused(sent: Job) -> None:
    _, other = make_shard("other", "browser", "git")
    response = Runner(other, sent).claim()
    assert response.status_code == 409
    assert attempts_of(sent)[0].state == "sent"


def test_a_shard_of_another_pool_is_refused(sent: Job) -> None:
    _, other = make_shard("other", pool="theirs")
    assert Runner(other, sent).claim().status_code == 409


@pytest.mark.parametrize("attempt", [2, 99, 10**30])
def test_an_attempt_that_was_never_sent(sent: Job, key: str, attempt: int) -> None:
    assert Runner(key, sent, attempt).claim().status_code == 409


@pytest.mark.parametrize("job_id", ["job_x", "%00", "x" * 300])
def test_a_job_that_does_not_exist_is_refused_in_the_same_words(sent: Job, key: str, job_id: str) -> None:
    response = Runner(key, Job(public_id=job_id)).claim()
    _, other = make_shard("other", "browser")
    assert response.status_code == 409
    assert response.content == Runner(other, sent).claim().content


def test_a_claim_of_a_cancelled_job_is_refused(sent: Job, key: str, tenant: Tenant) -> None:
    cancel(tenant, sent.public_id)
    assert Runner(key, sent).claim().status_code == 409
    assert fresh(sent).status == "cancelled"


def test_a_job_that_has_ended(tenant: Tenant, key: str) -> None:
    _, runner = running_job(tenant, key)
    runner.finish()
    assert runner.claim().status_code == 409


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"max_concurrent_jobs": 0}, "no free slot"),
        ({"state": ShardState.DRAINING}, "takes no new jobs"),
        ({"is_active": False}, "takes no new jobs"),
    ],
)
def test_a_shard_that_cannot_take_it_gives_it_back(
    sent: Job, key: str, shard: Shard, change: dict[str, object], words: str
) -> None:
    make_shard("second")
    Shard.objects.filter(pk=shard.pk).update(**change)
    response = Runner(key, sent).claim()
    assert response.status_code == 409
    assert words in error_of(response)["message"]
    dispatch_round()
    first, second = attempts_of(sent)
    assert (first.state, first.error_code) == ("withdrawn", "refused")
    assert (second.number, second.state) == (2, "sent")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"attempt": 1}, "claim_token"),
        ({"attempt": 1, "claim_token": "short"}, "claim_token"),
        ({"attempt": 0, "claim_token": "t" * 40}, "attempt"),
        ({"attempt": "one", "claim_token": "t" * 40}, "attempt"),
        ({"claim_token": "t" * 40}, "attempt"),
        ({"attempt": 1, "claim_token": "t" * 201}, "claim_token"),
        ({"attempt": 1, "claim_token": "t\x00" * 40}, "claim_token"),
    ],
)
def test_a_malformed_claim(sent: Job, key: str, body: dict[str, object], field: str) -> None:
    response = Runner(key, sent).call("claim", body)
    assert response.status_code == 400
    assert list(error_of(response)["fields"]) == [field]
    assert attempts_of(sent)[0].state == "sent"
