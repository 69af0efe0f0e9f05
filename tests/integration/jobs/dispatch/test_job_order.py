"""Rounds on the real database: fair shares, limits, concurrency keys, deadlines and suspensions."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db.models.functions import Now

from jobs.dispatch import concurrency_keys
from jobs.dispatch.round import dispatch_round
from jobs.lifecycle.cancel import cancel
from jobs.lifecycle.reaper import CANCEL_DEADLINE_S, RUN_GRACE_S, recover
from jobs.models import Attempt, FairShareClocks, Job, Priority
from jobs.models.states import Hold
from jobs.queue.waiting import WaitStatus, wait_status
from myctobot.tenants.models import Tenant
from shards.models import Pool, Shard, Suspension
from tests.factories.control_plane import (
    Api,
    Runner,
    age,
    attempts_of,
    end_pause,
    error_of,
    fresh,
    make_job,
    make_shard,
    make_tenant,
    number_of,
    running_job,
)
from tests.integration.jobs.lifecycle.test_reaper import lose

pytestmark = pytest.mark.django_db
REPO = {"type": "prompt", "prompt": "Fix it.", "repo_url": "https://example.com/a.git", "branch": "fix/a"}


def why(job: Job) -> WaitStatus:
    waiting = wait_status(fresh(job), estimate=False)
    assert waiting is not None
    return waiting


def sent(*jobs: Job) -> list[bool]:
    """Tell for each job whether it has a slot or an attempt on its way."""
    return [fresh(job).hold == Hold.DISPATCHED or fresh(job).status == "running" for job in jobs]


def take(key: str, job: Job) -> Runner:
    runner = Runner(key, job, number_of(job), f"{job.pk:040}")
    assert runner.claim().status_code == 200
    return runner


class TestShares:
    def test_two_tenants_share_the_slots(self, tenant: Tenant, key: str) -> None:
        mine = [make_job(tenant) for _ in range(5)]
        other = make_job(make_tenant("other"))
        dispatch_round()
        assert sent(other, *mine) == [True, True, False, False, False, False]

    def test_a_new_tenant_goes_before_a_tenant_with_slots(self, tenant: Tenant, key: str) -> None:
        _, first = running_job(tenant, key)
        running_job(tenant, key)
        mine = make_job(tenant)
        other = make_job(make_tenant("other"))
        first.finish()
        dispatch_round()
        assert sent(mine, other) == [False, True]

    def test_with_one_slot_tenants_alternate(self, tenant: Tenant) -> None:
        _, key = make_shard("single", slots=1)
        jobs = {tenant.pk: [make_job(tenant) for _ in range(4)]}
        other = make_tenant("other")
        jobs[other.pk] = [make_job(other) for _ in range(4)]
        order = []
        for _ in range(8):
            dispatch_round()
            job = Job.objects.get(hold=Hold.DISPATCHED)
            order.append(job.tenant_id)
            take(key, job).finish()
        assert [order.count(pk) for pk in jobs] == [4, 4]
        assert all(first != second for first, second in zip(order[::2], order[1::2], strict=True))

    def test_slots_used_while_no_job_waited_do_not_count_against_a_tenant(self, tenant: Tenant, key: str) -> None:
        FairShareClocks.objects.create(pk=1, counted_at=Now() - timedelta(hours=2))
        running_job(tenant, key)
        mine, other = make_job(tenant), make_job(make_tenant("other"))
        dispatch_round()
        # The two hours before do not count, so the tenant has used its slot for a moment only.
        assert sent(mine, other) == [False, True]
        assert all(clock < 60 for clock in FairShareClocks.objects.get().by_tenant.values())

    def test_usage_while_no_job_waited_is_ignored(self, tenant: Tenant, key: str) -> None:
        running_job(tenant, key)
        Attempt.objects.update(sent_at=Now() - timedelta(hours=2))
        FairShareClocks.objects.update_or_create(pk=1, defaults={"counted_at": Now() - timedelta(hours=2)})
        dispatch_round()
        make_job(make_tenant("other"))
        dispatch_round()
        assert all(clock < 60 for clock in FairShareClocks.objects.get().by_tenant.values())

    def test_clocks_advance_while_all_slots_are_busy(self, tenant: Tenant, key: str) -> None:
        running_job(tenant, key)
        running_job(tenant, key)
        make_job(make_tenant("other"))
        Attempt.objects.update(sent_at=Now() - timedelta(seconds=100))
        FairShareClocks.objects.update_or_create(pk=1, defaults={"counted_at": Now() - timedelta(seconds=50)})
        dispatch_round()
        state = FairShareClocks.objects.get()
        assert state.counted_at > Attempt.objects.earliest("sent_at").sent_at + timedelta(seconds=60)

    def test_usage_of_jobs_that_ended_between_rounds_counts(self, tenant: Tenant, key: str) -> None:
        _, runner = running_job(tenant, key)
        make_job(make_tenant("other"))
        Attempt.objects.update(sent_at=Now() - timedelta(seconds=100))
        runner.finish()
        FairShareClocks.objects.update(counted_at=Now() - timedelta(seconds=300))
        dispatch_round()
        assert FairShareClocks.objects.get().by_tenant[str(tenant.pk)] == pytest.approx(100, abs=10)

    def test_tenants_waiting_for_a_full_class_keep_their_share(self, tenant: Tenant, key: str) -> None:
        running_job(tenant, key)
        running_job(tenant, key)
        other = make_tenant("other")
        make_job(other)
        make_shard("elsewhere", "playwright")
        make_job(tenant, "playwright")
        Attempt.objects.update(sent_at=Now() - timedelta(seconds=100))
        FairShareClocks.objects.update_or_create(pk=1, defaults={"counted_at": Now() - timedelta(seconds=300)})
        dispatch_round()
        clocks = FairShareClocks.objects.get().by_tenant
        assert (str(other.pk) in clocks, clocks[str(tenant.pk)]) == (False, pytest.approx(200, abs=10))

    def test_slots_follow_weights(self, tenant: Tenant) -> None:
        make_shard("wide", slots=8)
        Tenant.objects.filter(pk=tenant.pk).update(weight=300)
        mine, theirs = [make_job(tenant) for _ in range(8)], []
        other = make_tenant("other")
        theirs = [make_job(other) for _ in range(8)]
        dispatch_round()
        assert (sum(sent(*mine)), sum(sent(*theirs))) == (6, 2)

    def test_ageing_raises_a_batch_job(self, tenant: Tenant, shard: Shard) -> None:
        batch = make_job(tenant, priority=Priority.BATCH)
        normal = [make_job(tenant) for _ in range(2)]
        Job.objects.filter(pk=batch.pk).update(ready_at=Now() - timedelta(minutes=31))
        dispatch_round()
        assert sent(batch, *normal) == [True, True, False]


class TestLimits:
    def test_a_tenant_gets_slots_up_to_its_limit(self, tenant: Tenant, shard: Shard) -> None:
        Tenant.objects.update(max_running_jobs=1)
        jobs = [make_job(tenant) for _ in range(2)]
        dispatch_round()
        assert sent(*jobs) == [True, False]
        assert (why(jobs[1]).code, why(jobs[1]).reason) == (
            "tenant_limit",
            "The tenant is at its limit of 1 running jobs.",
        )

    def test_slots_in_its_own_pool_count_for_the_limit_only(self, tenant: Tenant) -> None:
        _, key = make_shard("mine", "browser", "git", pool="mine")
        make_shard("shared", "git", slots=1)
        tenant.assignments.create(pool=Pool.objects.get())
        running_job(tenant, key, capabilities=["browser"])
        mine, other = make_job(tenant), make_job(make_tenant("other"))
        Tenant.objects.filter(pk=tenant.pk).update(max_running_jobs=1)
        dispatch_round()
        assert sent(mine, other) == [False, True]
        assert why(mine).code == "tenant_limit"

    def test_a_tenant_may_queue_jobs_up_to_its_limit(self, tenant: Tenant, shard: Shard) -> None:
        Tenant.objects.update(max_waiting_jobs=2)
        body = {"task": {"type": "prompt", "prompt": "x"}, "capabilities": ["git"]}
        api = Api.of(tenant)
        assert [api.post("/jobs", body).status_code for _ in range(3)] == [201, 201, 429]
        refused = error_of(api.post("/jobs", body))
        assert (refused["code"], refused["retryable"]) == ("queue_limit_reached", True)
        # A job that no shard can run is refused for that reason, even at the limit.
        assert error_of(api.post("/jobs", {**body, "capabilities": ["quantum"]}))["code"] == "no_eligible_shard"
        dispatch_round()
        assert api.post("/jobs", body).status_code == 429
        Job.objects.filter(hold=Hold.DISPATCHED).update(status="running", hold="")
        assert api.post("/jobs", body).status_code == 201

    def test_jobs_of_an_inactive_tenant_have_a_reason(self, tenant: Tenant, shard: Shard) -> None:
        job = make_job(tenant)
        Tenant.objects.update(is_active=False)
        dispatch_round()
        assert why(job).code == "tenant_inactive"


class TestKeys:
    def pair(self, tenant: Tenant, **changes: Any) -> tuple[Job, Job]:
        facts = {"concurrency_key": "deploy", **changes}
        return make_job(tenant, **facts), make_job(tenant, **facts)

    def test_the_second_job_waits_and_names_the_first(self, tenant: Tenant, shard: Shard) -> None:
        first, second = self.pair(tenant)
        dispatch_round()
        assert sent(first, second) == [True, False]
        assert why(second).code == "key_busy"
        assert first.public_id in why(second).reason

    def test_the_same_branch_is_a_key(self, tenant: Tenant, shard: Shard) -> None:
        first, second = make_job(tenant, task=REPO), make_job(tenant, task=REPO)
        other = make_job(tenant, task={**REPO, "branch": "fix/b"})
        dispatch_round()
        assert sent(first, second, other) == [True, False, True]

    def test_keys_of_other_tenants_do_not_count(self, tenant: Tenant, shard: Shard) -> None:
        first = make_job(tenant, concurrency_key="deploy")
        other = make_job(make_tenant("other"), concurrency_key="deploy")
        dispatch_round()
        assert sent(first, other) == [True, True]

    def test_a_limit_of_two(self, tenant: Tenant) -> None:
        make_shard("wide", slots=8)
        jobs = [*self.pair(tenant, concurrency_limit=2), *self.pair(tenant, concurrency_limit=2)]
        dispatch_round()
        assert sent(*jobs) == [True, True, False, False]

    def test_many_jobs_with_a_busy_key_do_not_block_others(self, tenant: Tenant, shard: Shard) -> None:
        for _ in range(20):
            self.pair(tenant)
        last = make_job(tenant)
        dispatch_round()
        assert sent(last) == [True]

    @pytest.mark.parametrize("how", ["finish", "cancel", "lost", "failed"])
    def test_the_next_job_is_released_when_the_first_frees_its_slot(self, tenant: Tenant, key: str, how: str) -> None:
        first, second = self.pair(tenant)
        dispatch_round()
        runner = take(key, first)
        if how == "finish":
            runner.finish()
        elif how == "failed":
            runner.finish("failed", error={"code": "disk_full", "message": "Full.", "retryable": True})
        elif how == "lost":
            lose(first)
        else:
            cancel(tenant, first.public_id)
            proof = {"processes_killed": 1, "processes_left": 0, "checked_at": "now"}
            runner.finish("cancelled", proof=proof)
        dispatch_round()
        assert sent(second) == [True]

    def test_a_cancel_before_the_start_frees_the_key(self, tenant: Tenant, shard: Shard) -> None:
        first, second = self.pair(tenant)
        dispatch_round()
        cancel(tenant, first.public_id)
        dispatch_round()
        assert sent(second) == [True]

    def test_a_job_that_no_end_released_is_found(self, tenant: Tenant, shard: Shard) -> None:
        job, _ = self.pair(tenant)
        # This state occurs when a round holds the job at the moment when the holder ends.
        Job.objects.filter(pk=job.pk).update(hold=Hold.CONCURRENCY)
        assert concurrency_keys.release_free_keys() == 1
        dispatch_round()
        assert sent(job) == [True]

    def test_no_job_is_released_while_the_key_is_held(self, tenant: Tenant, shard: Shard) -> None:
        self.pair(tenant)
        dispatch_round()
        assert concurrency_keys.release_free_keys() == 0


class TestDeadlines:
    def test_an_overdue_wait_ends_with_its_reason(self, tenant: Tenant) -> None:
        make_shard(heard=False)
        job = make_job(tenant, queue_timeout_s=60)
        recover()
        assert fresh(job).status == "queued"
        Job.objects.update(queue_deadline=Now() - timedelta(seconds=1))
        recover()
        ended = fresh(job)
        assert (ended.status, ended.error_code, ended.error_retryable) == ("failed", "queue_timeout", True)
        assert "queue_timeout_s of 60" in ended.error_message
        assert "never reported" in ended.error_message

    def test_an_overdue_sent_attempt_is_withdrawn(self, tenant: Tenant, key: str) -> None:
        job = make_job(tenant, queue_timeout_s=60)
        dispatch_round()
        Job.objects.update(queue_deadline=Now() - timedelta(seconds=1))
        recover()
        assert (fresh(job).error_code, attempts_of(job)[0].state) == ("queue_timeout", "withdrawn")
        assert Runner(key, job).claim().status_code == 409

    def test_a_running_job_has_no_queue_deadline(self, tenant: Tenant, key: str) -> None:
        job, _ = running_job(tenant, key, queue_timeout_s=60)
        assert fresh(job).queue_deadline is None
        lose(job)
        assert fresh(job).queue_deadline is not None

    def test_an_unconfirmed_cancel_ends_with_what_is_known(self, tenant: Tenant, key: str) -> None:
        job, runner = running_job(tenant, key)
        cancel(tenant, job.public_id)
        Job.objects.update(cancel_requested_at=Now() - timedelta(seconds=CANCEL_DEADLINE_S + 1))
        assert runner.events("still here").json()["cancel"]
        recover()
        ended = fresh(job)
        assert (ended.status, ended.error_code) == ("cancelled", "cancelled_unconfirmed")
        assert "Known: the attempt is fenced" in ended.error_message
        assert runner.events("too late").status_code == 409

    def test_a_run_over_its_timeout_is_fenced(self, tenant: Tenant, key: str) -> None:
        job, runner = running_job(tenant, key)
        age(attempts_of(job)[0], "claimed_at", 600 + RUN_GRACE_S - 5)
        recover()
        assert fresh(job).status == "running"
        age(attempts_of(job)[0], "claimed_at", 600 + RUN_GRACE_S + 5)
        recover()
        assert (fresh(job).status, fresh(job).error_code) == ("failed", "timeout")
        assert runner.events("too late").status_code == 409


class TestRetries:
    def test_another_shard_is_preferred(self, tenant: Tenant, key: str) -> None:
        job, _ = running_job(tenant, key)
        make_shard("two")
        lose(job)
        end_pause(job)
        dispatch_round()
        assert attempts_of(job)[-1].queue == "shard.two"

    def test_a_failure_of_the_agent_is_retried_when_requested(self, tenant: Tenant, key: str) -> None:
        error = {"code": "agent_failed", "message": "It gave up.", "retryable": False}
        for retry_on, status in (["infrastructure"], "failed"), (["agent"], "queued"):
            job, runner = running_job(tenant, key, retry_on=retry_on)
            runner.finish("failed", error=error)
            assert fresh(job).status == status


class TestSuspensions:
    @pytest.mark.parametrize("what", ["shard", "class", "pool"])
    def test_a_suspended_target_gets_no_jobs_and_the_reason_says_by_whom(self, tenant: Tenant, what: str) -> None:
        pool = Pool.objects.create(name="premium")
        shard, _ = make_shard("one", "git", pool="premium")
        tenant.assignments.create(pool=pool)
        places: dict[str, dict[str, Any]] = {
            "shard": {"shard": shard},
            "class": {"shard_class": shard.shard_class},
            "pool": {"pool": pool},
        }
        suspension = Suspension.objects.create(suspended_by="anna", reason="kernel update", **places[what])
        job = make_job(tenant)
        dispatch_round()
        assert why(job).code == "suspended"
        assert "by anna: kernel update" in why(job).reason
        Suspension.objects.filter(pk=suspension.pk).update(resumed_at=Now(), resumed_by="anna")
        dispatch_round()
        assert Attempt.objects.count() == 1
