"""Attempts that their shard's worker does not run any more, by its reports."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db.models.functions import Now

from jobs.dispatch.round import dispatch_round
from jobs.lifecycle.cancel import cancel
from jobs.lifecycle.reaper import recover
from jobs.models import Job
from myctobot.lib.clock import database_now
from myctobot.tenants.models import Tenant
from shards.models import Shard
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
from tests.integration.shards.shard_api.test_heartbeat import beat

pytestmark = pytest.mark.django_db


def name_of(job: Job) -> str:
    return f"{job.public_id}.1"


@pytest.fixture
def running(tenant: Tenant, key: str) -> tuple[Job, Runner]:
    """Provide a job that has run for a while."""
    job, runner = running_job(tenant, key)
    age(attempts_of(job)[0], "claimed_at", 20)
    return job, runner


def report(key: str, *running: str) -> None:
    """Send a heartbeat that names these runners, and run the reaper as beat does."""
    assert beat(key, running=list(running)).status_code == 200
    # An outage that has just ended does not matter: the reports have arrived.
    recover(database_now())


class TestMissing:
    def test_in_two_reports_is_lost_at_once(self, key: str, running: tuple[Job, Runner]) -> None:
        job, runner = running
        report(key)
        assert attempts_of(job)[0].state == "running"
        report(key)
        (attempt,) = attempts_of(job)
        assert (attempt.state, attempt.error_code) == ("lost", "lost")
        assert "does not run it any more" in fresh(job).waiting_reason
        assert error_of(runner.events("late"))["code"] == "fenced"

    def test_named_in_each_report_it_stays(self, key: str, running: tuple[Job, Runner]) -> None:
        job, _ = running
        for _ in range(3):
            report(key, "job_x.1", name_of(job))
        assert attempts_of(job)[0].state == "running"
        assert attempts_of(job)[0].missing_at is None

    def test_only_reports_in_a_row_count(self, key: str, running: tuple[Job, Runner]) -> None:
        job, _ = running
        for names in ((), (name_of(job),), ()):
            report(key, *names)
        assert attempts_of(job)[0].state == "running"

    def test_a_call_of_the_runner_in_between_proves_that_it_lives(self, key: str, running: tuple[Job, Runner]) -> None:
        job, runner = running
        report(key)
        assert runner.events("here").status_code == 200
        report(key)
        assert attempts_of(job)[0].state == "running"

    def test_a_report_that_was_made_before_the_claim_does_not_count(self, tenant: Tenant, key: str) -> None:
        job, _ = running_job(tenant, key)
        for _ in range(3):
            report(key)
        assert attempts_of(job)[0].state == "running"

    def test_one_report_counts_once_however_often_it_is_read(self, key: str, running: tuple[Job, Runner]) -> None:
        job, _ = running
        report(key)
        for _ in range(3):
            recover()
        assert attempts_of(job)[0].state == "running"

    def test_the_last_report_of_a_silent_shard_says_nothing(self, key: str, running: tuple[Job, Runner]) -> None:
        job, _ = running
        beat(key, running=[])
        Shard.objects.update(last_heartbeat_at=Now() - timedelta(seconds=16))
        recover()
        assert attempts_of(job)[0].missing_at is None

    def test_a_shard_without_a_report_says_nothing(self, key: str, running: tuple[Job, Runner]) -> None:
        job, _ = running
        Shard.objects.update(report={}, last_heartbeat_at=Now())
        recover()
        assert attempts_of(job)[0].missing_at is None

    def test_reports_of_another_shard_say_nothing(self, key: str, running: tuple[Job, Runner]) -> None:
        job, _ = running
        _, other = make_shard("two")
        for _ in range(3):
            report(other)
        assert attempts_of(job)[0].state == "running"

    def test_after_a_cancel_its_end_is_unconfirmed(self, tenant: Tenant, key: str, running: tuple[Job, Runner]) -> None:
        job, _ = running
        cancel(tenant, job.public_id)
        report(key)
        report(key)
        assert (fresh(job).status, fresh(job).error_code) == ("cancelled", "cancelled_unconfirmed")


class TestReportedAsEnded:
    def test_is_lost_at_once_and_its_slot_is_free(self, tenant: Tenant, key: str, shard: Shard) -> None:
        Shard.objects.update(max_concurrent_jobs=1)
        job, runner = running_job(tenant, key)
        waiting = make_job(tenant)
        assert dispatch_round().sent == 0
        assert beat(key, ended=[name_of(job)]).status_code == 200
        assert (attempts_of(job)[0].state, fresh(job).waiting_code) == ("lost", "retry")
        assert "its runner ended without a report" in fresh(job).waiting_reason
        assert error_of(runner.finish())["code"] == "fenced"
        assert dispatch_round().sent == 1
        assert Runner(key, waiting).claim().status_code == 200
        shard.refresh_from_db()
        assert "ended" not in shard.report

    def test_a_repeated_report_does_not_touch_the_next_attempt(self, tenant: Tenant, key: str) -> None:
        job, _ = running_job(tenant, key)
        beat(key, ended=[name_of(job)])
        end_pause(job)
        dispatch_round()
        assert Runner(key, job, 2, "u" * 40).claim().status_code == 200
        assert beat(key, ended=[name_of(job)]).status_code == 200
        assert [attempt.state for attempt in attempts_of(job)] == ["lost", "running"]

    def test_another_shard_cannot_end_it(self, tenant: Tenant, key: str) -> None:
        job, _ = running_job(tenant, key)
        _, other = make_shard("two")
        assert beat(other, ended=[name_of(job)]).status_code == 200
        assert attempts_of(job)[0].state == "running"

    def test_what_was_reported_stays(self, tenant: Tenant, key: str) -> None:
        job, runner = running_job(tenant, key)
        runner.finish()
        assert beat(key, ended=[name_of(job)]).status_code == 200
        assert (fresh(job).status, attempts_of(job)[0].state) == ("completed", "ended")

    @pytest.mark.parametrize("name", ["../x.1", "job_x.1", "x", "job_0123456789abcdefghjk.1"])
    def test_other_names_do_no_harm(self, key: str, name: str) -> None:
        assert beat(key, ended=[name]).status_code == 200
