"""Unclaimed attempts and silent runners."""

from __future__ import annotations

import importlib
from datetime import timedelta

import pytest
from django.db.models import F
from django.db.models.functions import Now

from jobs.attempts.gateway_grants import find_grant
from jobs.dispatch.round import dispatch_round
from jobs.events.reader import read_events
from jobs.lifecycle import reachability
from jobs.lifecycle.cancel import cancel
from jobs.lifecycle.reaper import MAX_UNCLAIMED, recover
from jobs.models import EventBatch, Job
from jobs.tasks import tick_task
from myctobot.contract.limits import CLAIM_DEADLINE_S, LEASE_S, LOST_AFTER_S
from myctobot.lib.clock import database_now
from myctobot.tenants.models import Tenant
from shards.models import ReachabilityRecord, Shard
from tests.factories.control_plane import (
    Runner,
    age,
    attempts_of,
    end_pause,
    error_of,
    fresh,
    make_job,
    make_shard,
    running_job,
)

pytestmark = pytest.mark.django_db
SILENT = LOST_AFTER_S - LEASE_S


def lose(job: Job, seconds: float = SILENT + 1) -> Job:
    age(attempts_of(job)[-1], "lease_until", seconds)
    recover()
    return fresh(job)


class TestUnclaimed:
    def test_within_its_deadline_it_stays(self, tenant: Tenant, shard: Shard) -> None:
        job = make_job(tenant)
        dispatch_round()
        age(attempts_of(job)[0], "sent_at", CLAIM_DEADLINE_S - 5)
        recover()
        assert attempts_of(job)[0].state == "sent"

    def test_after_the_deadline_it_is_withdrawn_and_the_job_is_dispatched_again(self, tenant: Tenant, key: str) -> None:
        job = make_job(tenant)
        dispatch_round()
        age(attempts_of(job)[0], "sent_at", CLAIM_DEADLINE_S + 1)
        tick_task()
        first, second = attempts_of(job)
        assert (first.state, first.error_code, second.number, second.state) == ("withdrawn", "unclaimed", 2, "sent")
        assert error_of(Runner(key, job, 1).claim())["code"] == "not_claimable"
        assert Runner(key, job, 2).claim().status_code == 200

    def test_a_claim_just_before_wins(self, tenant: Tenant, key: str) -> None:
        job, _ = running_job(tenant, key)
        age(attempts_of(job)[0], "sent_at", CLAIM_DEADLINE_S + 1)
        recover()
        assert attempts_of(job)[0].state == "running"

    def test_it_does_not_count_as_a_try(self, tenant: Tenant, key: str) -> None:
        job = make_job(tenant)
        for _ in range(3):
            dispatch_round()
            age(attempts_of(job)[-1], "sent_at", CLAIM_DEADLINE_S + 1)
            recover()
        dispatch_round()
        Runner(key, job, 4).claim()
        assert lose(job).status == "queued"

    def test_after_many_the_job_fails_and_says_where_to_look(self, tenant: Tenant, shard: Shard) -> None:
        job = make_job(tenant)
        for _ in range(MAX_UNCLAIMED):
            assert fresh(job).status == "queued"
            dispatch_round()
            age(attempts_of(job)[-1], "sent_at", CLAIM_DEADLINE_S + 1)
            recover()
        assert fresh(job).error_code == "unclaimed"
        assert "broker" in fresh(job).error_message


class TestLost:
    def test_nothing_is_lost_within_a_lease_of_the_control_planes_own_start(self, tenant: Tenant, key: str) -> None:
        job, _ = running_job(tenant, key)
        age(attempts_of(job)[0], "lease_until", SILENT + 1)
        now = database_now()
        recover(now - timedelta(seconds=LEASE_S - 5))
        assert attempts_of(job)[0].state == "running"
        recover(now - timedelta(seconds=LEASE_S + 5))
        assert attempts_of(job)[0].state == "lost"

    def test_control_workers_that_restart_all_the_time_lose_it_too(
        self, tenant: Tenant, key: str, shard: Shard
    ) -> None:
        Shard.objects.update(last_heartbeat_at=Now(), steady_since=Now() - timedelta(hours=1))
        job, _ = running_job(tenant, key)
        age(attempts_of(job)[0], "lease_until", SILENT + 1)
        for _ in range(2 * LEASE_S // 40 + 1):
            # Each start of a process loads its modules again.
            importlib.reload(reachability)
            recover(reachability.check_reachability())
            # The next process starts 40 s later.
            ReachabilityRecord.objects.update(
                since=F("since") - timedelta(seconds=40), checked_at=F("checked_at") - timedelta(seconds=40)
            )
        assert attempts_of(job)[0].state == "lost"

    def test_within_its_time_it_stays(self, tenant: Tenant, key: str) -> None:
        job, _ = running_job(tenant, key)
        assert lose(job, SILENT - 5).status == "running"

    def test_a_repeatable_job_goes_back_to_the_queue(self, tenant: Tenant, key: str) -> None:
        job, runner = running_job(tenant, key)
        runner.events("one", "two")
        lost = lose(job)
        assert (lost.status, lost.phase, lost.waiting_code) == ("queued", "", "retry")
        assert attempts_of(job)[0].state == "lost"
        assert "tried again in 5 s, attempt 2 of 2" in lost.waiting_reason
        assert dispatch_round().sent == 0
        end_pause(job)
        dispatch_round()
        again = Runner(key, job, 2, "u" * 40)
        assert again.claim().json()["next_seq"] == 3

    def test_a_job_that_may_not_happen_twice_fails(self, tenant: Tenant) -> None:
        _, key = make_shard("two", "git", "jira")
        job, _ = running_job(tenant, key, capabilities=["git", "jira"])
        lost = lose(job)
        assert (lost.status, lost.error_code, lost.error_retryable) == ("failed", "lost", True)
        assert "because of jira" in lost.error_message

    def test_attempts_run_out(self, tenant: Tenant, key: str) -> None:
        job, _ = running_job(tenant, key)
        lose(job)
        end_pause(job)
        dispatch_round()
        assert Runner(key, job, 2, "u" * 40).claim().status_code == 200
        lost = lose(job)
        assert (lost.status, lost.error_code) == ("failed", "lost")
        assert "the last of 2" in lost.error_message

    def test_a_wanted_cancel_ends_it_and_says_what_is_not_known(self, tenant: Tenant, key: str) -> None:
        job, _ = running_job(tenant, key)
        cancel(tenant, job.public_id)
        lost = lose(job)
        assert (lost.status, lost.error_code) == ("cancelled", "cancelled_unconfirmed")
        assert "Not known: whether its processes still run" in lost.error_message

    def test_a_sign_of_life_renews_the_lease(self, tenant: Tenant, key: str) -> None:
        job, runner = running_job(tenant, key)
        age(attempts_of(job)[0], "lease_until", SILENT + 1)
        assert runner.events().status_code == 200
        recover()
        assert fresh(job).status == "running"

    @pytest.mark.parametrize("call", ["events", "finish"])
    def test_what_comes_too_late_is_fenced_and_not_stored(self, tenant: Tenant, key: str, call: str) -> None:
        job, runner = running_job(tenant, key)
        lose(job)
        answer = runner.events("late") if call == "events" else runner.finish()
        assert error_of(answer)["code"] == "fenced"
        assert EventBatch.objects.count() == 0
        assert fresh(job).status == "queued"

    def test_the_lost_runner_cannot_disturb_the_next(self, tenant: Tenant, key: str) -> None:
        job, old = running_job(tenant, key)
        lose(job)
        end_pause(job)
        dispatch_round()
        new = Runner(key, job, 2, "u" * 40)
        new.claim()
        new.events("new")
        for answer in (old.events("old"), old.finish(), old.claim()):
            assert answer.status_code == 409
        # Not even with the number of the new attempt: it does not know its claim token.
        old.attempt, old.seq = 2, 2
        for answer in (old.events("old"), old.finish()):
            assert answer.status_code == 409
        assert [event["data"]["text"] for event in read_events(job.pk, 0, 10)] == ["new"]

    def test_a_lost_attempts_gateway_token_is_dead(self, tenant: Tenant, key: str) -> None:
        job = make_job(tenant)
        dispatch_round()
        token = Runner(key, job).claim().json()["gateway"]["token"]
        assert find_grant(token) is not None
        lose(job)
        assert find_grant(token) is None

    def test_the_shard_of_a_lost_attempt_may_be_gone(self, tenant: Tenant, key: str) -> None:
        job, _ = running_job(tenant, key)
        Shard.objects.all().delete()
        assert "a removed shard" in lose(job).waiting_reason


def test_what_has_ended_is_left_alone(tenant: Tenant, key: str) -> None:
    job, runner = running_job(tenant, key)
    runner.finish()
    before = attempts_of(job)[0].ended_at
    age(attempts_of(job)[0], "lease_until", 10_000)
    recover()
    assert fresh(job).status == "completed"
    assert attempts_of(job)[0].ended_at == before
