"""``manage.py jobs``."""

from __future__ import annotations

import json
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db.models.functions import Now

from jobs.dispatch.round import dispatch_round
from jobs.lifecycle.cancel import cancel
from jobs.models import Attempt, Job
from jobs.queue.waiting import wait_status
from myctobot.tenants.models import Tenant
from shards.models import Pool, Shard, Suspension
from tests.factories.control_plane import Runner, attempts_of, fresh, make_job, make_shard, number_of, running_job

pytestmark = pytest.mark.django_db


def jobs(*arguments: str) -> str:
    output = StringIO()
    call_command("jobs", *arguments, stdout=output, stderr=StringIO())
    return output.getvalue()


def as_json(*arguments: str) -> dict[str, Any]:
    return dict(json.loads(jobs(*arguments, "--json")))


def refused(*arguments: str) -> str:
    with pytest.raises(CommandError) as caught:
        jobs(*arguments)
    assert caught.value.returncode == 2
    return str(caught.value)


class TestWhy:
    def test_a_waiting_job(self, tenant: Tenant) -> None:
        make_shard(heard=False)
        job = make_job(tenant)
        assert "waits (no_healthy_shard): No healthy shard with git: one never reported." in jobs("why", job.public_id)
        found = as_json("why", job.public_id)
        assert (found["status"], found["waiting"]["code"]) == ("queued", "no_healthy_shard")

    def test_a_running_job_has_a_lease(self, tenant: Tenant, key: str) -> None:
        job, _ = running_job(tenant, key)
        Attempt.objects.update(lease_until=Now() + timedelta(seconds=55))
        (attempt,) = as_json("why", job.public_id)["attempts"]
        assert attempt["shard"] == "one"
        # The command's clock is the start of the transaction, so setup time makes the rest of the lease look longer.
        assert 55 <= attempt["lease_left_s"] <= 60
        assert "attempt 1 on one: running" in jobs("why", job.public_id)

    def test_a_failed_job_lists_its_attempts(self, tenant: Tenant, key: str) -> None:
        job, runner = running_job(tenant, key)
        runner.finish("failed", error={"code": "push_denied", "message": "No right to push.", "retryable": False})
        assert "push_denied: No right to push." in jobs("why", job.public_id)

    def test_an_unknown_job(self) -> None:
        assert refused("why", "job_unknown") == "There is no job 'job_unknown'."


class TestQueues:
    def test_classes_and_waiting_jobs(self, tenant: Tenant, shard: Shard) -> None:
        for _ in range(3):
            make_job(tenant)
        dispatch_round()
        found = as_json("queues")
        (row,) = found["classes"]
        assert (row["class"], row["slots"], row["free"], row["healthy"]) == ("filesystem+git", 2, 0, 1)
        assert {(lane["state"], lane["jobs"]) for lane in found["waiting"]} == {("ready", 1), ("sent", 2)}
        assert "filesystem+git  1/1  2  0  0" in jobs("queues")


class TestDrain:
    def test_the_reason_says_who_when_and_why(self, tenant: Tenant, shard: Shard) -> None:
        assert as_json("drain", "one", "--reason", "kernel update", "--by", "anna")["state"] == "draining"
        job = make_job(tenant)
        dispatch_round()
        waiting = wait_status(fresh(job))
        assert waiting is not None
        assert waiting.code == "suspended"
        assert "by anna: kernel update" in waiting.reason
        assert "by anna: kernel update" in jobs("queues")

    def test_a_second_drain_names_the_first_operator(self, shard: Shard) -> None:
        jobs("drain", "one", "--reason", "kernel update", "--by", "anna")
        assert refused("drain", "one", "--reason", "again") == "Shard one is already suspended by anna: kernel update"
        assert Suspension.objects.count() == 1

    def test_resume(self, tenant: Tenant, shard: Shard) -> None:
        jobs("drain", "one", "--reason", "kernel update")
        jobs("resume", "one", "--by", "ben")
        make_job(tenant)
        assert dispatch_round().sent == 1
        assert Suspension.objects.get().resumed_by == "ben"
        assert refused("resume", "one") == "Shard one is not drained. Its state is ready."

    def test_wait_returns_when_nothing_runs(self, tenant: Tenant, key: str) -> None:
        assert "0 jobs run there" in jobs("drain", "one", "--reason", "x", "--wait")

    def test_wait_times_out(self, tenant: Tenant, key: str) -> None:
        running_job(tenant, key)
        with pytest.raises(CommandError, match="1 jobs still run on one after 0 s"):
            jobs("drain", "one", "--reason", "x", "--wait", "--timeout", "0")

    def test_an_unknown_shard_and_a_missing_reason(self, shard: Shard) -> None:
        assert refused("drain", "two", "--reason", "x") == "There is no shard 'two'; there are: one."
        assert "Give a reason" in refused("drain", "one", "--reason", "  ")


class TestPause:
    @pytest.mark.parametrize("place", [("--class", "git@premium"), ("--pool", "premium")])
    def test_no_jobs_are_sent_until_it_ends(self, tenant: Tenant, place: tuple[str, str]) -> None:
        make_shard("one", "git", pool="premium")
        tenant.assignments.create(pool=Pool.objects.get())
        jobs("pause", *place, "--reason", "cost", "--by", "anna")
        job = make_job(tenant)
        assert dispatch_round().sent == 0
        waiting = wait_status(fresh(job))
        assert waiting is not None
        assert "paused since" in waiting.reason
        jobs("unpause", *place)
        assert dispatch_round().sent == 1
        assert "is not paused" in refused("unpause", *place)

    def test_an_unknown_pool_or_class(self, shard: Shard) -> None:
        assert "there are: filesystem+git" in refused("pause", "--class", "browser", "--reason", "x")
        assert "There is no pool 'gold'" in refused("pause", "--pool", "gold", "--reason", "x")


class TestRequeue:
    def test_a_running_job_is_queued_and_its_runner_fenced(self, tenant: Tenant, key: str) -> None:
        job, runner = running_job(tenant, key)
        assert as_json("requeue", job.public_id, "--by", "anna")["was"] == "running"
        assert (fresh(job).status, attempts_of(job)[0].state) == ("queued", "lost")
        assert runner.events("late").status_code == 409
        dispatch_round()
        assert Runner(key, job, number_of(job), "u" * 40).claim().status_code == 200

    def test_a_sent_job(self, tenant: Tenant, key: str) -> None:
        job = make_job(tenant)
        dispatch_round()
        jobs("requeue", job.public_id)
        assert (attempts_of(job)[0].state, fresh(job).hold) == ("withdrawn", "")
        assert Runner(key, job).claim().status_code == 409

    def test_a_delayed_job_starts_now(self, tenant: Tenant, shard: Shard) -> None:
        job = make_job(tenant)
        Job.objects.update(hold="time")
        assert as_json("requeue", job.public_id)["was"] == "delayed"
        assert dispatch_round().sent == 1

    def test_a_job_with_a_pending_cancel_is_refused(self, tenant: Tenant, key: str) -> None:
        job, runner = running_job(tenant, key)
        cancel(tenant, job.public_id)
        assert "cancel is asked for" in refused("requeue", job.public_id)
        assert fresh(job).status == "running"
        assert runner.events("going").json()["cancel"]

    def test_an_ended_job(self, tenant: Tenant, key: str) -> None:
        job, runner = running_job(tenant, key)
        runner.finish()
        assert "retry it instead" in refused("requeue", job.public_id)
