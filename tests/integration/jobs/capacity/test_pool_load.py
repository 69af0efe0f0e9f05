"""Growing and shrinking pools: real decisions and operations, with containers in memory."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db.models.functions import Now

from jobs.capacity import pool_load
from jobs.capacity.pool_load import is_busy, load_of, scale_pools, use_spares
from jobs.dispatch.round import dispatch_round
from jobs.errors import NoEligibleShard
from jobs.models import Job
from jobs.queue.waiting import wait_status
from myctobot.tenants.models import Tenant
from shards.autoscaling import decision_log
from shards.autoscaling.actuator import release, remove_drained
from shards.lifecycle import suspensions
from shards.models import Pool, Shard, Suspension
from shards.monitoring.models import Alert
from shards.operations.models import Operation
from tests.factories.control_plane import fresh, make_job, make_tenant
from tests.factories.pools import RULES, FullProvider, PoolWorld, clock_timestamp

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _advance_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_load, "database_now", clock_timestamp)


class TestGrowing:
    def test_grows_to_the_minimum_with_a_reason(self, world: PoolWorld) -> None:
        scale_pools()
        assert world.states() == {"blue-1": "requested"}
        world.operate()
        assert world.states() == {"blue-1": "ready"}
        (decision,) = world.decisions()
        assert (decision.change, decision.shards, decision.error) == (1, ["blue-1"], "")
        assert "the minimum is 1" in decision.reason
        assert decision.inputs["measured"]["shard_count"] == 0
        assert decision.inputs["rules"] == RULES

    def test_new_shards_follow_the_template(self, world: PoolWorld) -> None:
        world.grow()
        (shard,) = world.shards()
        assert (shard.template, shard.provider, shard.shard_type) == (world.pool.template, "memory", "general")
        assert shard.shard_class == "filesystem+git@blue"
        assert Operation.objects.get().requested_by == "autoscaling"

    def test_grows_for_jobs_that_wait_for_this_pool(self, world: PoolWorld) -> None:
        world.grow()
        jobs = [make_job(world.tenant) for _ in range(3)]
        world.start(jobs[0], world.shards()[0])
        scale_pools()
        assert len(world.shards()) == 3
        assert "waiting_jobs > 0" in world.decisions()[-1].reason

    def test_ignores_jobs_that_it_cannot_serve(self, world: PoolWorld) -> None:
        world.grow()
        stranger = make_tenant("stranger")
        PoolWorld(world.maker, stranger, "red", limits={**RULES["limits"], "min_shards": 0})
        world.start(make_job(world.tenant), world.shards()[0])
        Job.objects.create(tenant=stranger, task={}, capabilities=["git"], timeout_s=9, max_turns=1)
        Job.objects.create(tenant=world.tenant, task={}, capabilities=["browser"], timeout_s=9, max_turns=1)
        scale_pools()
        assert len(world.shards()) == 1

    def test_ignores_jobs_of_a_tenant_at_its_limit(self, world: PoolWorld) -> None:
        world.grow()
        Tenant.objects.filter(pk=world.tenant.pk).update(max_running_jobs=1)
        jobs = [make_job(world.tenant) for _ in range(3)]
        world.start(jobs[0], world.shards()[0])
        scale_pools()
        assert len(world.shards()) == 1

    def test_does_not_grow_while_paused(self, world: PoolWorld) -> None:
        suspensions.pause(pool="blue", by="ada", reason="move")
        scale_pools()
        assert world.shards() == []

    def test_grows_from_zero_when_a_job_comes(self, world: PoolWorld) -> None:
        Pool.objects.update(scaling_rules={**RULES, "limits": {**RULES["limits"], "min_shards": 0}})
        job = make_job(world.tenant)
        waiting = wait_status(job)
        assert waiting is not None
        assert (waiting.code, "blue-0 is built when jobs wait" in waiting.reason) == ("no_healthy_shard", True)
        scale_pools()
        world.operate()
        world.start(job, world.shards()[0])

    def test_does_not_grow_from_zero_without_rules(self, world: PoolWorld) -> None:
        Pool.objects.update(scaling_dry_run=True)
        with pytest.raises(NoEligibleShard):
            make_job(world.tenant)

    def test_stops_at_its_limits_and_records_that_once(self, world: PoolWorld) -> None:
        world.grow()
        for _ in range(9):
            make_job(world.tenant)
        for _ in range(5):
            scale_pools()
            world.operate()
            dispatch_round()
        held = [decision for decision in world.decisions() if decision.change == 0]
        assert len(world.shards()) == 3
        assert len(world.maker.list()) == 3
        assert len(held) <= 1

    def test_uses_the_first_free_name(self, world: PoolWorld) -> None:
        Shard(name="blue-1", capabilities=["git"]).save()
        world.grow()
        assert [shard.name for shard in world.shards()] == ["blue-2"]

    def test_an_incomplete_pool_is_an_error_that_is_recorded_once(self, world: PoolWorld) -> None:
        Pool.objects.update(template=None)
        scale_pools()
        scale_pools()
        (decision,) = world.decisions()
        assert decision.error == "Pool blue has no template, so no shard can be built for it."
        assert Alert.objects.get().subject == "Pool blue cannot grow"

    def test_invalid_rules_do_not_affect_other_pools(self, world: PoolWorld) -> None:
        Pool.objects.create(name="bad", scaling_rules={"scale_up": 1}, scaling_dry_run=False)
        scale_pools()
        scale_pools()
        assert world.states() == {"blue-1": "requested"}
        (decision,) = Pool.objects.get(name="bad").decisions.all()
        assert "limits" in decision.error


class TestDryRun:
    @pytest.fixture
    def world(self, world: PoolWorld) -> PoolWorld:
        Pool.objects.update(scaling_dry_run=True)
        return world

    def test_records_a_decision_once_and_does_nothing(self, world: PoolWorld) -> None:
        scale_pools()
        scale_pools()
        (decision,) = world.decisions()
        assert (decision.change, decision.is_dry_run, decision.shards) == (1, True, [])
        assert world.shards() == []

    def test_it_has_separate_cooldowns(self, world: PoolWorld) -> None:
        scale_pools()
        Pool.objects.update(scaling_dry_run=False)
        assert decision_log.last_change(Pool.objects.get(), 1) is None
        scale_pools()
        assert world.states() == {"blue-1": "requested"}


class TestShrinking:
    @pytest.fixture
    def world(self, world: PoolWorld) -> PoolWorld:
        """Create two ready shards, of which one is enough."""
        Pool.objects.update(scaling_rules={**RULES, "limits": {**RULES["limits"], "min_shards": 2}})
        world.grow()
        Pool.objects.update(scaling_rules=RULES)
        return world

    def test_an_idle_shard_is_drained_and_then_removed(self, world: PoolWorld) -> None:
        assert len(world.autoscale().released) == 1
        assert sorted(world.states().values()) == ["draining", "ready"]
        assert Suspension.objects.get().suspended_by == "autoscaling"
        (name,) = world.autoscale().removed
        world.operate()
        assert world.states()[name] == "gone"
        assert len(world.maker.list()) == 1
        world.autoscale()
        assert [decision.change for decision in world.decisions()][-1] == -1
        assert len([decision for decision in world.decisions() if decision.change < 0]) == 1

    def test_a_busy_shard_stays(self, world: PoolWorld) -> None:
        jobs = [make_job(world.tenant) for _ in range(2)]
        for job, shard in zip(jobs, world.shards(), strict=True):
            world.start(job, shard)
        assert not world.autoscale().released
        assert not release(world.shards()[0].name, reason="r", is_busy=is_busy)

    def test_a_shard_that_was_busy_when_drained_stays(self, world: PoolWorld) -> None:
        first = world.shards()[0]
        runner = world.start(make_job(world.tenant), first)
        suspensions.drain(first.name, by="autoscaling", reason="idle")
        assert remove_drained(world.pool, is_busy) == []
        runner.finish()
        assert remove_drained(world.pool, is_busy) == [first.name]

    def test_a_shard_that_an_operator_drained_or_resumed_stays(self, world: PoolWorld) -> None:
        (name,) = world.autoscale().released
        suspensions.resume(name, by="ada")
        suspensions.drain(name, by="ada", reason="kernel update")
        assert remove_drained(world.pool, is_busy) == []

    def test_a_manually_installed_shard_stays(self, world: PoolWorld) -> None:
        Shard.objects.update(provider="", provider_ref="")
        assert not world.autoscale().released

    def test_the_longest_idle_shard_is_removed(self, world: PoolWorld) -> None:
        first, second = world.shards()
        Shard.objects.update(state_since=Now() - timedelta(hours=5))
        world.start(make_job(world.tenant), first).finish()
        assert world.autoscale().released == [second.name]

    def test_the_last_run_of_a_shard_is_known(self, world: PoolWorld) -> None:
        first = world.shards()[0]
        runner = world.start(make_job(world.tenant), first)
        assert load_of(world.pool, (), clock_timestamp()).running == {first.pk: 1}
        runner.finish()
        ended = runner.job.attempts.get().ended_at
        assert load_of(world.pool, (), clock_timestamp()).last_end == {first.pk: ended}

    def test_a_reused_name_is_no_longer_drained(self, world: PoolWorld) -> None:
        world.autoscale()
        (name,) = world.autoscale().removed
        world.operate()
        for _ in range(3):
            make_job(world.tenant)
        dispatch_round()
        assert name in world.autoscale().built
        world.operate()
        assert world.states()[name] == "ready"
        assert not Suspension.objects.filter(resumed_at=None).exists()


class TestFailures:
    @pytest.fixture
    def world(self, maker: FullProvider, tenant: Tenant) -> PoolWorld:
        """Create a pool that wants three shards of a provider without capacity."""
        maker.is_full = True
        return PoolWorld(maker, tenant, limits={"min_shards": 3, "max_shards": 3, "max_shards_per_type": 3})

    def failed(self, world: PoolWorld, ago_s: float = 0) -> None:
        world.operate()
        Operation.objects.update(ended_at=Now() - timedelta(seconds=ago_s))

    def test_three_consecutive_failures_pause_it_with_an_alert(self, world: PoolWorld) -> None:
        assert len(world.autoscale().built) == 3
        self.failed(world)
        assert not world.autoscale().built
        assert not world.autoscale().built
        grown, held = world.decisions()
        assert "There is no room left" in grown.error
        assert "3 builds in a row failed" in held.reason
        assert "manage.py autoscale resume blue" in Alert.objects.get(kind="pool.not_scaled").text

    def test_one_build_is_retried_later_with_the_same_row(self, world: PoolWorld) -> None:
        world.autoscale()
        self.failed(world, 3700)
        assert world.autoscale().built == ["blue-1"]
        assert not world.autoscale().built
        self.failed(world)
        assert not world.autoscale().built
        assert list(world.states()) == ["blue-1", "blue-2", "blue-3"]

    def test_an_operator_resumes_it(self, world: PoolWorld) -> None:
        world.autoscale()
        self.failed(world)
        world.autoscale()
        world.maker.is_full = False
        decision_log.resume(world.pool, by="ada")
        world.grow()
        assert set(world.states().values()) == {"ready"}


class TestSpares:
    @pytest.fixture
    def world(self, maker: FullProvider, tenant: Tenant) -> PoolWorld:
        """Create a pool with one busy shard and one spare."""
        world = PoolWorld(maker, tenant, warm_spares=1)
        world.grow()
        world.start(make_job(tenant), world.shards()[0])
        world.grow()
        return world

    def test_take_no_jobs(self, world: PoolWorld) -> None:
        (spare,) = world.shards(is_spare=True)
        job = make_job(world.tenant)
        dispatch_round()
        assert (spare.state, fresh(job).attempt_number) == ("ready", 0)

    def test_are_activated_at_once_and_replaced(self, world: PoolWorld) -> None:
        (spare,) = world.shards(is_spare=True)
        job = make_job(world.tenant)
        dispatch_round()
        assert use_spares() == [spare.name]
        world.start(job, spare)
        assert "1 jobs wait" in world.decisions()[-1].reason
        assert len(world.autoscale().built) == 1
        assert len(world.shards(is_spare=True)) == 1

    def test_stay_idle_without_need(self, world: PoolWorld) -> None:
        assert use_spares() == []
        assert not world.autoscale().released

    def test_may_not_claim_jobs(self, world: PoolWorld) -> None:
        (spare,) = world.shards(is_spare=True)
        running, _ = world.shards()
        job = make_job(world.tenant)
        Shard.objects.filter(pk=running.pk).update(max_concurrent_jobs=2, report={"slots": 2})
        dispatch_round()
        assert fresh(job).attempt_number == 1
        assert world.runner(job, spare).claim().status_code == 409
