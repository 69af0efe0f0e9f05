"""Recycling: shards of ephemeral pools run one job and are re-created, so no container runs a second job."""

from __future__ import annotations

from datetime import timedelta
from threading import Barrier, Thread

import pytest
from django.db import connection
from django.db.models.functions import Now

from jobs.attempts.claim_rows import Claim
from jobs.capacity.recycling import recycle_used
from jobs.dispatch.round import dispatch_round
from jobs.lifecycle.transitions import invalidate_attempt
from jobs.models import Attempt, Job
from jobs.tasks import dispatch_round_task
from myctobot.contract.runner import ClaimAnswer
from myctobot.tenants.models import Tenant
from shards.lifecycle import suspensions
from shards.models import Assignment, Pool, PoolMode, Shard
from shards.monitoring.models import Alert
from shards.operations.models import Operation
from tests.factories.control_plane import Runner, error_of, fresh, make_job, make_shard, number_of, running_job
from tests.factories.pools import FullProvider, PoolWorld

pytestmark = pytest.mark.django_db


@pytest.fixture
def world(maker: FullProvider, tenant: Tenant) -> PoolWorld:
    """Create an ephemeral pool with one shard."""
    world = PoolWorld(maker, tenant, mode="ephemeral")
    world.grow()
    return world


@pytest.fixture
def shard(world: PoolWorld) -> Shard:
    return world.shards()[0]


def sent_anyway(world: PoolWorld, shard: Shard) -> Job:
    """Create a job whose message reaches a shard that should not get it."""
    job = make_job(world.tenant)
    Job.objects.filter(pk=job.pk).update(attempt_number=1, hold="sent")
    Attempt.objects.create(job=job, number=1, queue=shard.queues[0], shard_class=shard.shard_class)
    return job


def count_of_claims() -> int:
    return Attempt.objects.exclude(claimed_at=None).count()


class TestLife:
    def test_a_claim_drains_the_shard_and_marks_it(self, world: PoolWorld, shard: Shard) -> None:
        job = make_job(world.tenant)
        world.start(job, shard)
        shard.refresh_from_db()
        assert (shard.state, shard.is_used) == ("draining", True)
        assert job.public_id in shard.state_reason
        assert recycle_used() == []

    def test_it_is_re_created_when_the_job_has_ended(self, world: PoolWorld, shard: Shard) -> None:
        runner = world.start(make_job(world.tenant), shard)
        old_key = world.key_of(shard)
        assert runner.finish().status_code == 200
        dispatch_round_task()
        (operation,) = world.operate()
        shard.refresh_from_db()
        assert (operation.kind, operation.state) == ("recycle", "done")
        assert (shard.state, shard.is_used) == ("ready", False)
        assert world.key_of(shard) != old_key
        world.start(make_job(world.tenant), shard)

    @pytest.mark.parametrize("end", ["lost", "withdrawn"])
    def test_it_is_re_created_after_every_end_of_an_attempt(self, world: PoolWorld, shard: Shard, end: str) -> None:
        runner = world.start(make_job(world.tenant), shard)
        invalidate_attempt(Attempt.objects.get(job=runner.job), end, code=end, message="m")
        assert recycle_used() == [shard.name]

    def test_two_requests_re_create_it_once(self, world: PoolWorld, shard: Shard) -> None:
        world.start(make_job(world.tenant), shard).finish()
        assert (recycle_used(), recycle_used()) == ([shard.name], [])

    def test_it_has_one_slot_regardless_of_its_report(self, world: PoolWorld, shard: Shard) -> None:
        Shard.objects.update(max_concurrent_jobs=8, report={"slots": 8})
        jobs = [make_job(world.tenant) for _ in range(3)]
        dispatch_round()
        assert sorted(number_of(job) for job in jobs) == [0, 0, 1]

    def test_a_refused_claim_does_not_mark_it(self, world: PoolWorld, shard: Shard) -> None:
        job = sent_anyway(world, shard)
        Attempt.objects.update(queue="cap.other")
        assert world.runner(job, shard).claim().status_code == 409
        shard.refresh_from_db()
        assert (shard.state, shard.is_used) == ("ready", False)


class TestOneJobOnly:
    def test_a_second_job_is_refused_and_queued_again(self, world: PoolWorld, shard: Shard) -> None:
        world.start(make_job(world.tenant), shard)
        job = sent_anyway(world, shard)
        assert world.runner(job, shard).claim().status_code == 409
        assert (fresh(job).status, fresh(job).hold) == ("queued", "")

    def test_a_second_job_is_refused_after_the_first_one(self, world: PoolWorld, shard: Shard) -> None:
        world.start(make_job(world.tenant), shard).finish()
        assert world.runner(sent_anyway(world, shard), shard).claim().status_code == 409

    def test_a_second_job_is_refused_after_a_resume(self, world: PoolWorld, shard: Shard) -> None:
        world.start(make_job(world.tenant), shard).finish()
        suspensions.resume(shard.name, by="ada")
        job = make_job(world.tenant)
        dispatch_round()
        assert number_of(job) == 0
        refused = world.runner(sent_anyway(world, shard), shard).claim()
        assert "re-created" in error_of(refused)["message"]
        assert recycle_used() == [shard.name]
        shard.refresh_from_db()
        assert shard.state == "draining"

    def test_a_second_job_is_refused_during_the_recycling(self, world: PoolWorld, shard: Shard) -> None:
        runner = world.start(make_job(world.tenant), shard)
        key = world.key_of(shard)
        runner.finish()
        recycle_used()
        Shard.objects.update(state="provisioning")
        assert Runner(key, sent_anyway(world, shard)).claim().status_code == 409

    def test_a_second_job_is_refused_with_the_previous_key(self, world: PoolWorld, shard: Shard) -> None:
        runner = world.start(make_job(world.tenant), shard)
        key = world.key_of(shard)
        runner.finish()
        recycle_used()
        world.operate()
        assert Runner(key, sent_anyway(world, shard)).claim().status_code == 401

    @pytest.mark.django_db(transaction=True)
    def test_one_of_simultaneous_claims_is_accepted(self, world: PoolWorld, shard: Shard) -> None:
        jobs = [sent_anyway(world, shard) for _ in range(5)]
        key, start, codes = world.key_of(shard), Barrier(5), []

        def claim(job: Job) -> None:
            start.wait(10)
            codes.append(Runner(key, job).claim().status_code)
            connection.close()

        threads = [Thread(target=claim, args=[job]) for job in jobs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert sorted(codes) == [200, 409, 409, 409, 409]
        assert count_of_claims() == 1

    def test_a_repeated_claim_of_the_same_runner_is_accepted(self, world: PoolWorld, shard: Shard) -> None:
        runner = world.start(make_job(world.tenant), shard)
        assert runner.claim().json() == runner.claim().json()
        assert count_of_claims() == 1

    def test_the_runner_of_an_ended_job_cannot_write(self, world: PoolWorld, shard: Shard) -> None:
        runner = world.start(make_job(world.tenant), shard)
        runner.finish()
        assert runner.events("late").status_code == 409
        assert runner.claim().status_code == 409
        recycle_used()
        world.operate()
        assert runner.events("later").status_code == 401

    def test_a_shard_with_earlier_jobs_is_recycled_when_its_pool_becomes_ephemeral(self, tenant: Tenant) -> None:
        shard, key = make_shard("old", pool="old")
        Assignment.objects.create(tenant=tenant, pool=shard.pool)
        running_job(tenant, key)[1].finish()
        Pool.objects.filter(name="old").update(mode=PoolMode.EPHEMERAL)
        job = Job.objects.create(tenant=tenant, task={}, capabilities=["git"], timeout_s=9, max_turns=1)
        Job.objects.filter(pk=job.pk).update(attempt_number=1, hold="sent")
        Attempt.objects.create(job=job, number=1, queue=shard.queues[0], shard_class=shard.shard_class)
        assert Runner(key, job).claim().status_code == 409

    def test_a_pool_that_becomes_ephemeral_during_a_claim(
        self, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        shard, key = make_shard("old", pool="old", slots=2)
        Assignment.objects.create(tenant=tenant, pool=shard.pool)
        jobs = [make_job(tenant) for _ in range(2)]
        dispatch_round()

        usual = Claim.answer

        def answer_after_switch(claim: Claim) -> ClaimAnswer:
            Pool.objects.update(mode=PoolMode.EPHEMERAL)
            return usual(claim)

        monkeypatch.setattr(Claim, "answer", answer_after_switch)
        assert [Runner(key, job).claim().status_code for job in jobs] == [200, 409]
        shard.refresh_from_db()
        assert shard.is_used


class TestSpares:
    @pytest.fixture
    def world(self, maker: FullProvider, tenant: Tenant) -> PoolWorld:
        """Create an ephemeral pool with one busy shard and one spare."""
        world = PoolWorld(maker, tenant, mode="ephemeral", warm_spares=1)
        world.grow()
        world.start(make_job(tenant), world.shards()[0])
        world.grow()
        return world

    def test_a_spare_replaces_it_and_it_becomes_the_spare(self, world: PoolWorld) -> None:
        used, spare = world.shards()
        assert (used.is_spare, spare.is_spare) == (False, True)
        Attempt.objects.update(state="ended", ended_at=Now())
        recycle_used()
        assert [shard.is_spare for shard in world.shards()] == [True, False]
        world.start(make_job(world.tenant), spare)
        world.operate()
        used.refresh_from_db()
        assert (used.state, used.is_spare) == ("ready", True)

    def test_the_pool_does_not_grow_during_the_recycling(self, world: PoolWorld) -> None:
        Attempt.objects.update(state="ended", ended_at=Now())
        recycle_used()
        assert not world.autoscale().built


class TestFailures:
    @pytest.fixture
    def used(self, world: PoolWorld, shard: Shard) -> Shard:
        """Return a used shard whose provider fails from now on."""
        world.start(make_job(world.tenant), shard).finish()
        world.maker.is_full = True
        return shard

    def test_a_failed_recycle_is_retried_later(self, world: PoolWorld, used: Shard) -> None:
        recycle_used()
        world.operate()
        assert recycle_used() == []
        Operation.objects.update(ended_at=Now() - timedelta(seconds=40))
        world.maker.is_full = False
        assert recycle_used() == [used.name]
        world.operate()
        assert world.states() == {used.name: "ready"}

    def test_after_three_failures_it_takes_no_jobs_with_one_alert(self, world: PoolWorld, used: Shard) -> None:
        for _ in range(3):
            recycle_used()
            world.operate()
            Operation.objects.update(ended_at=Now() - timedelta(hours=1))
        assert (recycle_used(), recycle_used()) == ([], [])
        assert Alert.objects.filter(kind="shard.not_recycled").count() == 1
        assert world.runner(sent_anyway(world, used), used).claim().status_code in (401, 409)
        # It does not return by itself, so another shard is built.
        world.maker.is_full = False
        assert len(world.autoscale().built) == 1

    def test_recycling_survives_a_restart(self, world: PoolWorld, shard: Shard) -> None:
        world.start(make_job(world.tenant), shard).finish()
        # No message and no memory is involved: the pending work is in the database.
        assert recycle_used() == [shard.name]
        Operation.objects.update(state="failed", ended_at=Now() - timedelta(minutes=5))
        assert recycle_used() == [shard.name]

    def test_a_machine_that_cannot_be_re_created_takes_no_jobs(self, world: PoolWorld, shard: Shard) -> None:
        world.start(make_job(world.tenant), shard).finish()
        Shard.objects.update(provider="", provider_ref="")
        assert recycle_used() == []
        assert "no container" in Alert.objects.get().text

    def test_a_shard_that_an_operator_drained_is_left_alone(self, world: PoolWorld, shard: Shard) -> None:
        runner = world.start(make_job(world.tenant), shard)
        suspensions.drain(shard.name, by="ada", reason="look at it")
        runner.finish()
        assert recycle_used() == []
