"""Dispatch rounds on the real database and broker."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from datetime import timedelta
from threading import Barrier, Thread
from typing import Any, cast

import pytest
from celery import Celery
from django.conf import settings
from django.db import connection
from django.utils import timezone
from redis import ConnectionError, Redis
from redis.client import Pipeline

from jobs.broker import send_all
from jobs.dispatch import placement
from jobs.dispatch.round import RoundResult, dispatch_round
from jobs.dispatch.round_metrics import round_clock
from jobs.dispatch.routing import pick as real_pick
from jobs.lifecycle import transitions
from jobs.lifecycle.cancel import cancel
from jobs.models import Attempt, Job, Priority
from jobs.models.lanes import lane_of
from jobs.queue.waiting import wait_status
from myctobot.celery import app
from myctobot.contract.runner import EXECUTE_TASK
from myctobot.messaging import direct_queue
from myctobot.tenants.models import Tenant
from shards.models import Assignment, Shard, ShardState
from tests.factories.control_plane import (
    SECRETS,
    Runner,
    attempts_of,
    fresh,
    make_job,
    make_shard,
    make_tenant,
    running_job,
)

pytestmark = pytest.mark.django_db
QUEUE = "cap.filesystem+git"


@pytest.fixture(autouse=True)
def broker() -> Iterator[Redis]:
    with Redis.from_url(settings.REDIS_URL, decode_responses=True) as redis:
        redis.flushdb()
        yield redis


def why(job: Job) -> tuple[str, str]:
    waiting = wait_status(fresh(job), estimate=False)
    assert waiting is not None
    return waiting.code, waiting.reason


def many(tenant: Tenant, count: int, *capabilities: str, **changes: Any) -> list[Job]:
    """Submit waiting jobs, in the order of the list."""
    facts = {"task": {}, "timeout_s": 60, "max_turns": 5, "lane": lane_of(capabilities), **changes}
    return Job.objects.bulk_create(
        [Job(tenant=tenant, capabilities=sorted(capabilities), **facts) for _ in range(count)]
    )


def rounds_asked_for(broker: Redis) -> int:
    """Return the number of requested rounds. The debouncer delays a request that follows another one shortly."""
    until = time.monotonic() + 5
    while not broker.llen("control") and time.monotonic() < until:
        time.sleep(0.01)
    return int(broker.llen("control"))  # type: ignore[arg-type]  # not asynchronous here


def messages(broker: Redis, queue: str = QUEUE) -> list[list[Any]]:
    """Return the arguments of the messages in a queue, oldest first."""
    raw: list[str] = broker.lrange(queue, 0, -1)  # type: ignore[assignment]  # not asynchronous here
    bodies = [json.loads(base64.b64decode(json.loads(text)["body"])) for text in raw]
    return [body[0] for body in bodies][::-1]


def test_a_waiting_job_gets_an_attempt_and_a_message(broker: Redis, tenant: Tenant, shard: Shard) -> None:
    job = make_job(tenant)
    assert dispatch_round() == RoundResult(sent=1)
    (attempt,) = attempts_of(job)
    assert (attempt.number, attempt.state, attempt.queue, attempt.shard) == (1, "sent", QUEUE, None)
    assert messages(broker) == [[job.public_id, 1]]
    assert (fresh(job).status, fresh(job).waiting_code) == ("queued", "dispatched")


def test_the_message_has_only_the_job_and_the_attempt(broker: Redis, tenant: Tenant, shard: Shard) -> None:
    job = make_job(tenant, secrets=SECRETS, task={"type": "prompt", "prompt": "canary-prompt"})
    dispatch_round()
    (raw,) = broker.lrange(QUEUE, 0, -1)  # type: ignore[misc]  # not asynchronous here
    message = json.loads(raw)
    assert json.loads(base64.b64decode(message["body"]))[:2] == [[job.public_id, 1], {}]
    assert message["headers"]["task"] == EXECUTE_TASK
    text = raw + base64.b64decode(message["body"]).decode()
    assert not [word for word in ("canary", "secret", tenant.slug, "prompt") if word in text]


def test_the_broker_stores_no_secret_and_no_prompt(broker: Redis, tenant: Tenant, key: str) -> None:
    running_job(tenant, key, secrets=SECRETS, task={"type": "prompt", "prompt": "canary-prompt"})
    everything = ""
    for name in broker.scan_iter():
        everything += name + str(broker.dump(name) if broker.type(name) != "list" else broker.lrange(name, 0, -1))
    assert "canary" not in everything


def test_only_free_slots_are_filled_and_other_jobs_have_a_reason(tenant: Tenant, shard: Shard) -> None:
    jobs = [make_job(tenant) for _ in range(4)]
    assert dispatch_round() == RoundResult(sent=2)
    assert [fresh(job).attempt_number for job in jobs] == [1, 1, 0, 0]
    waiting = wait_status(fresh(jobs[3]))
    assert waiting is not None
    assert (waiting.code, waiting.reason) == ("class_busy", "The only healthy shard with git is busy.")


def test_a_second_round_sends_no_job_again(broker: Redis, tenant: Tenant, shard: Shard) -> None:
    make_job(tenant)
    dispatch_round()
    assert dispatch_round() == RoundResult(0)
    assert len(messages(broker)) == 1


def test_priority_comes_before_age(tenant: Tenant, shard: Shard) -> None:
    batch = make_job(tenant, priority=Priority.BATCH)
    normal = make_job(tenant)
    high = make_job(tenant, priority=Priority.HIGH)
    older = make_job(tenant, priority=Priority.HIGH)
    dispatch_round()
    assert [fresh(job).attempt_number for job in (high, older, normal, batch)] == [1, 1, 0, 0]


def test_a_delayed_job_waits_until_its_time(tenant: Tenant, shard: Shard) -> None:
    job = make_job(tenant, not_before=timezone.now() + timedelta(hours=1))
    assert dispatch_round() == RoundResult(0)
    waiting = wait_status(job)
    assert waiting is not None
    assert waiting.code == "parked"
    Job.objects.filter(pk=job.pk).update(ready_at=timezone.now() - timedelta(seconds=1))
    assert dispatch_round().sent == 1


def test_a_time_in_the_past_neither_delays_nor_ages_a_job(tenant: Tenant, shard: Shard) -> None:
    job = make_job(tenant, not_before=timezone.now() - timedelta(days=30))
    assert job.hold == ""
    assert timezone.now() - job.ready_at < timedelta(minutes=1)


def test_jobs_of_an_inactive_tenant_are_not_dispatched(tenant: Tenant, shard: Shard) -> None:
    make_job(tenant)
    Tenant.objects.update(is_active=False)
    assert dispatch_round() == RoundResult(0)


def test_many_jobs_for_one_class_do_not_block_another(tenant: Tenant, shard: Shard) -> None:
    make_shard("busy", "browser", "git", state=ShardState.DRAINING)
    many(tenant, 300, "browser")
    last = make_job(tenant)
    assert dispatch_round() == RoundResult(sent=1)
    assert fresh(last).attempt_number == 1


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"state": ShardState.DRAINING}, "suspended"),
        ({"last_heartbeat_at": None}, "no_healthy_shard"),
        ({"is_active": False}, "no_shard"),
    ],
)
def test_an_unavailable_shard_gets_no_jobs(tenant: Tenant, shard: Shard, change: dict[str, Any], code: str) -> None:
    job = make_job(tenant)
    Shard.objects.update(**change)
    assert dispatch_round() == RoundResult(0)
    assert why(job)[0] == code


def test_a_silent_shard_gets_no_jobs_and_the_reason_says_since_when(tenant: Tenant, shard: Shard) -> None:
    job = make_job(tenant)
    Shard.objects.update(last_heartbeat_at=timezone.now() - timedelta(seconds=20))
    dispatch_round()
    assert "silent since" in why(job)[1]


def test_a_running_job_occupies_a_slot(tenant: Tenant, key: str) -> None:
    running_job(tenant, key)
    for _ in range(2):
        make_job(tenant)
    assert dispatch_round() == RoundResult(sent=1)


def test_a_pool_serves_assigned_tenants_only(broker: Redis, tenant: Tenant) -> None:
    pooled, _ = make_shard("pooled", "git", pool="premium")
    Assignment.objects.create(tenant=tenant, pool=pooled.pool)
    job = make_job(tenant)
    dispatch_round()
    assert messages(broker, "cap.git@premium") == [[job.public_id, 1]]


def test_an_assigned_shard_uses_its_own_queue(broker: Redis, tenant: Tenant, shard: Shard) -> None:
    make_shard("two")
    Assignment.objects.create(tenant=tenant, shard=shard, is_default=True)
    job = make_job(tenant)
    dispatch_round()
    assert messages(broker, "shard.one") == [[job.public_id, 1]]
    other = make_job(make_tenant("other"))
    dispatch_round()
    assert messages(broker) == [[other.public_id, 1]]


def test_a_cancel_between_reading_and_sending_wins(
    broker: Redis, tenant: Tenant, shard: Shard, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = make_job(tenant)

    def cancel_before_send(*args: Any) -> Any:
        cancel(tenant, job.public_id)
        return real_pick(*args)

    monkeypatch.setattr(placement, "pick", cancel_before_send)
    assert dispatch_round().sent == 0
    assert attempts_of(job) == []
    assert messages(broker) == []


def test_attempt_numbers_are_never_reused(tenant: Tenant, key: str) -> None:
    job = make_job(tenant)
    for expected in (1, 2, 3):
        dispatch_round()
        attempt = attempts_of(job)[-1]
        assert attempt.number == expected
        transitions.invalidate_attempt(attempt, "withdrawn", code="test", message="")
    assert Runner(key, job, 2).claim().status_code == 409


def test_ended_attempts_are_invalidated_once(tenant: Tenant, shard: Shard) -> None:
    job = make_job(tenant)
    dispatch_round()
    (attempt,) = attempts_of(job)
    assert transitions.invalidate_attempt(attempt, "withdrawn", code="a", message="")
    assert not transitions.invalidate_attempt(attempt, "lost", code="b", message="")
    assert attempts_of(job)[0].error_code == "a"


@pytest.mark.django_db(transaction=True)
def test_concurrent_rounds_send_each_job_once(broker: Redis, tenant: Tenant) -> None:
    make_shard(slots=12)
    jobs = [make_job(tenant) for _ in range(20)]
    start, rounds = Barrier(5), []

    def go() -> None:
        start.wait(10)
        rounds.append(dispatch_round())
        connection.close()

    threads = [Thread(target=go) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sum(each.sent for each in rounds) == 12
    assert sorted(messages(broker)) == sorted([job.public_id, 1] for job in jobs[:12])
    assert Attempt.objects.count() == 12


@pytest.mark.django_db(transaction=True)
def test_a_submit_requests_a_round_after_commit(broker: Redis, tenant: Tenant, shard: Shard) -> None:
    make_job(tenant)
    assert rounds_asked_for(broker) == 1


@pytest.mark.django_db(transaction=True)
def test_a_finish_requests_a_round(broker: Redis, tenant: Tenant, key: str) -> None:
    _, runner = running_job(tenant, key)
    # Wait until the debounce interval of the submit is over.
    broker.flushdb()
    runner.finish()
    assert rounds_asked_for(broker) == 1


def test_messages_equal_those_of_celery(broker: Redis) -> None:
    app.send_task(EXECUTE_TASK, args=["job_x", 3], queue=direct_queue(QUEUE))  # type: ignore[arg-type]  # a Queue is accepted too
    send_all([("job_x", 3, QUEUE), ("job_y", 1, QUEUE), ("job_z", 2, "elsewhere")])
    theirs, mine, second = (json.loads(text) for text in cast(list[str], broker.lrange(QUEUE, 0, -1))[::-1])
    for message in (theirs, mine):
        task_id = message["headers"].pop("id")
        assert message["headers"].pop("root_id") == message["properties"].pop("correlation_id") == task_id
        # The reply address and the delivery tag differ.
        assert message["properties"].pop("reply_to") or message is mine
        assert message["properties"].pop("delivery_tag")
    assert mine == theirs
    assert second["properties"]["delivery_tag"]
    assert messages(broker) == [["job_x", 3], ["job_x", 3], ["job_y", 1]]
    assert messages(broker, "elsewhere") == [["job_z", 2]]


class TestUnavailableBroker:
    def fail(self, monkeypatch: pytest.MonkeyPatch, times: int) -> list[int]:
        """Make a number of pipelines fail, and return the sizes of these and all later pipelines."""
        sizes: list[int] = []
        execute = Pipeline.execute

        def away(pipeline: Pipeline, *args: Any, **options: Any) -> Any:
            sizes.append(len(pipeline))
            if len(sizes) <= times:
                raise ConnectionError("connection refused")
            return execute(pipeline, *args, **options)

        monkeypatch.setattr(Pipeline, "execute", away)
        # Round metrics use a pipeline too, once a second.
        monkeypatch.setattr(round_clock, "_flush_at", float("inf"))
        return sizes

    def test_a_short_outage_is_retried(self, broker: Redis, tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
        make_shard("one", slots=9)
        jobs = [make_job(tenant) for _ in range(3)]
        sizes = self.fail(monkeypatch, 1)
        assert dispatch_round().sent == 3
        assert sizes == [3, 3]
        assert messages(broker) == [[job.public_id, 1] for job in jobs]

    def test_a_broker_that_never_answered_does_not_delay_a_round(
        self, tenant: Tenant, shard: Shard, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        job = make_job(tenant)
        # Nothing listens on this port, and a new pool has no open connection.
        with Celery(broker="redis://127.0.0.1:1/0", set_as_current=False) as away:
            monkeypatch.setattr("jobs.broker.app", away)
            began = time.monotonic()
            assert dispatch_round().sent == 1
        # Two retries with pauses of some tenths of a second; Celery's defaults would take six seconds.
        assert time.monotonic() - began < 4
        assert attempts_of(job)[0].state == "sent"

    def test_a_long_outage_loses_no_job(self, tenant: Tenant, shard: Shard, monkeypatch: pytest.MonkeyPatch) -> None:
        self.fail(monkeypatch, 99)
        job = make_job(tenant)
        assert dispatch_round().sent == 1
        assert fresh(job).status == "queued"
        assert attempts_of(job)[0].state == "sent"
