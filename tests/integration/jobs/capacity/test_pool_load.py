"""Pools grow and shrink by their rules: real decisions, real operations, containers in memory."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db.models.functions import Now

from jobs.capacity import pool_load as autoscaling
from jobs.capacity.pool_load import is_busy, load_of, scale_pools, use_spares
from jobs.dispatch.round import dispatch_round
from jobs.errors import NobodyCanRun
from jobs.models.job import Job
from jobs.queue.waiting import waiting_of
from myctobot.tenants.models import Tenant
from shards.autoscaling import decision_log as records
from shards.autoscaling.actuator import let_go, remove_drained
from shards.lifecycle.states import suspensions as closing
from shards.models.shard import Closure, Pool, Shard
from shards.monitoring.models import Alert
from shards.operations.models import Operation

from .pools import RULES, FullProvider, PoolWorld, the_time
from .support import fresh, make_job, make_tenant

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _time_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(autoscaling, "database_now", the_time)


class TestGrowing:
    def test_to_the_minimum_and_why(self, world: PoolWorld) -> None:
        scale_pools()
        assert world.states() == {"blue-1": "requested"}
        world.operate()
        assert world.states() == {"blue-1": "ready"}
        (decision,) = world.decisions()
        assert (decision.change, decision.shards, decision.error) == (1, ["blue-1"], "")
        assert "1 at least are wanted" in decision.reason
        assert decision.inputs["measured"]["shard_count"] == 0
        assert decision.inputs["rules"] == RULES

    def test_what_is_built_is_what_the_template_says(self, world: PoolWorld) -> None:
        world.grow()
        (shard,) = world.shards()
        assert (shard.template, shard.provider, shard.shard_type) == (world.pool.template, "memory", "general")
        assert shard.shard_class == "filesystem+git@blue"
        assert Operation.objects.get().requested_by == "autoscaling"

    def test_for_jobs_that_wait_for_this_pool(self, world: PoolWorld) -> None:
        world.grow()
        jobs = [make_job(world.tenant) for _ in range(3)]
        world.start(jobs[0], world.shards()[0])
        scale_pools()
        assert len(world.shards()) == 3
        assert "waiting_jobs > 0" in world.decisions()[-1].reason

    def test_not_for_jobs_that_it_could_not_serve(self, world: PoolWorld) -> None:
        world.grow()
        stranger = make_tenant("stranger")
        PoolWorld(world.maker, stranger, "red", limits={**RULES["limits"], "min_shards": 0})
        world.start(make_job(world.tenant), world.shards()[0])
        Job.objects.create(tenant=stranger, task={}, capabilities=["git"], timeout_s=9, max_turns=1)
        Job.objects.create(tenant=world.tenant, task={}, capabilities=["browser"], timeout_s=9, max_turns=1)
        scale_pools()
        assert len(world.shards()) == 1

    def test_not_for_jobs_of_a_tenant_at_its_limit(self, world: PoolWorld) -> None:
        world.grow()
        Tenant.objects.filter(pk=world.tenant.pk).update(max_running_jobs=1)
        jobs = [make_job(world.tenant) for _ in range(3)]
        world.start(jobs[0], world.shards()[0])
        scale_pools()
        assert len(world.shards()) == 1

    def test_not_while_the_pool_is_paused(self, world: PoolWorld) -> None:
        closing.pause(pool="blue", by="ada", reason="move")
        scale_pools()
        assert world.shards() == []

    def test_from_nothing_when_a_job_comes(self, world: PoolWorld) -> None:
        Pool.objects.update(scaling_rules={**RULES, "limits": {**RULES["limits"], "min_shards": 0}})
        job = make_job(world.tenant)
        waiting = waiting_of(job)
        assert waiting is not None
        assert (waiting.code, "blue-0 is built when jobs wait" in waiting.reason) == ("no_healthy_shard", True)
        scale_pools()
        world.operate()
        world.start(job, world.shards()[0])

    def test_not_from_nothing_where_nothing_is_scaled(self, world: PoolWorld) -> None:
        Pool.objects.update(scaling_dry_run=True)
        with pytest.raises(NobodyCanRun):
            make_job(world.tenant)

    def test_no_further_than_its_limits_and_that_is_said_once(self, world: PoolWorld) -> None:
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

    def test_the_first_free_name_is_taken(self, world: PoolWorld) -> None:
        Shard(name="blue-1", capabilities=["git"]).save()
        world.grow()
        assert [shard.name for shard in world.shards()] == ["blue-2"]

    def test_what_a_pool_does_not_say_is_an_error_told_once(self, world: PoolWorld) -> None:
        Pool.objects.update(template=None)
        scale_pools()
        scale_pools()
        (decision,) = world.decisions()
        assert decision.error == "Pool blue names no template, so nothing can be built for it."
        assert Alert.objects.get().subject == "Pool blue cannot grow"

    def test_rules_that_cannot_be_read_harm_no_other_pool(self, world: PoolWorld) -> None:
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

    def test_says_what_it_would_do_once_and_does_nothing(self, world: PoolWorld) -> None:
        scale_pools()
        scale_pools()
        (decision,) = world.decisions()
        assert (decision.change, decision.is_dry_run, decision.shards) == (1, True, [])
        assert world.shards() == []

    def test_its_cooldowns_are_its_own(self, world: PoolWorld) -> None:
        scale_pools()
        Pool.objects.update(scaling_dry_run=False)
        assert records.last_change(Pool.objects.get(), 1) is None
        scale_pools()
        assert world.states() == {"blue-1": "requested"}


class TestShrinking:
    @pytest.fixture
    def world(self, world: PoolWorld) -> PoolWorld:
        """Two ready shards, of which one is enough."""
        Pool.objects.update(scaling_rules={**RULES, "limits": {**RULES["limits"], "min_shards": 2}})
        world.grow()
        Pool.objects.update(scaling_rules=RULES)
        return world

    def test_an_idle_shard_is_drained_and_then_removed(self, world: PoolWorld) -> None:
        assert len(world.beat().let_go) == 1
        assert sorted(world.states().values()) == ["draining", "ready"]
        assert Closure.objects.get().closed_by == "autoscaling"
        (name,) = world.beat().removed
        world.operate()
        assert world.states()[name] == "gone"
        assert len(world.maker.list()) == 1
        world.beat()
        assert [decision.change for decision in world.decisions()][-1] == -1
        assert len([decision for decision in world.decisions() if decision.change < 0]) == 1

    def test_never_a_busy_one(self, world: PoolWorld) -> None:
        jobs = [make_job(world.tenant) for _ in range(2)]
        for job, shard in zip(jobs, world.shards(), strict=True):
            world.start(job, shard)
        assert not world.beat().let_go
        assert not let_go(world.shards()[0].name, reason="r", is_busy=is_busy)

    def test_not_one_that_was_busy_when_it_was_drained(self, world: PoolWorld) -> None:
        first = world.shards()[0]
        runner = world.start(make_job(world.tenant), first)
        closing.drain(first.name, by="autoscaling", reason="idle")
        assert remove_drained(world.pool, is_busy) == []
        runner.finish()
        assert remove_drained(world.pool, is_busy) == [first.name]

    def test_not_one_that_an_operator_drained_or_resumed(self, world: PoolWorld) -> None:
        (name,) = world.beat().let_go
        closing.resume(name, by="ada")
        closing.drain(name, by="ada", reason="kernel update")
        assert remove_drained(world.pool, is_busy) == []

    def test_not_a_machine_that_was_set_up_by_hand(self, world: PoolWorld) -> None:
        Shard.objects.update(provider="", provider_ref="")
        assert not world.beat().let_go

    def test_the_one_that_has_run_nothing_for_longest_goes(self, world: PoolWorld) -> None:
        first, second = world.shards()
        Shard.objects.update(state_since=Now() - timedelta(hours=5))
        world.start(make_job(world.tenant), first).finish()
        assert world.beat().let_go == [second.name]

    def test_when_a_shard_ran_last_is_known(self, world: PoolWorld) -> None:
        first = world.shards()[0]
        runner = world.start(make_job(world.tenant), first)
        assert load_of(world.pool, (), the_time()).running == {first.pk: 1}
        runner.finish()
        ended = runner.job.attempts.get().ended_at
        assert load_of(world.pool, (), the_time()).last_end == {first.pk: ended}

    def test_a_name_is_used_again_and_its_drain_is_over(self, world: PoolWorld) -> None:
        world.beat()
        (name,) = world.beat().removed
        world.operate()
        for _ in range(3):
            make_job(world.tenant)
        dispatch_round()
        assert name in world.beat().built
        world.operate()
        assert world.states()[name] == "ready"
        assert not Closure.objects.filter(reopened_at=None).exists()


class TestFailures:
    @pytest.fixture
    def world(self, maker: FullProvider, tenant: Tenant) -> PoolWorld:
        """Three shards are wanted, and the provider has room for none."""
        maker.is_full = True
        return PoolWorld(maker, tenant, limits={"min_shards": 3, "max_shards": 3, "max_shards_per_type": 3})

    def failed(self, world: PoolWorld, ago_s: float = 0) -> None:
        world.operate()
        Operation.objects.update(ended_at=Now() - timedelta(seconds=ago_s))

    def test_three_in_a_row_pause_it_and_say_so(self, world: PoolWorld) -> None:
        assert len(world.beat().built) == 3
        self.failed(world)
        assert not world.beat().built
        assert not world.beat().built
        grown, held = world.decisions()
        assert "There is no room left" in grown.error
        assert "3 builds in a row failed" in held.reason
        assert "manage.py autoscale resume blue" in Alert.objects.get(kind="pool.not_scaled").text

    def test_one_is_tried_after_a_while_and_the_same_row_is_used(self, world: PoolWorld) -> None:
        world.beat()
        self.failed(world, 3700)
        assert world.beat().built == ["blue-1"]
        assert not world.beat().built
        self.failed(world)
        assert not world.beat().built
        assert list(world.states()) == ["blue-1", "blue-2", "blue-3"]

    def test_an_operator_lets_it_go_on(self, world: PoolWorld) -> None:
        world.beat()
        self.failed(world)
        world.beat()
        world.maker.is_full = False
        records.resume(world.pool, by="ada")
        world.grow()
        assert set(world.states().values()) == {"ready"}


class TestSpares:
    @pytest.fixture
    def world(self, maker: FullProvider, tenant: Tenant) -> PoolWorld:
        """A pool with one shard at work and one spare."""
        world = PoolWorld(maker, tenant, warm_spares=1)
        world.grow()
        world.start(make_job(tenant), world.shards()[0])
        world.grow()
        return world

    def test_stand_by_and_take_no_job(self, world: PoolWorld) -> None:
        (spare,) = world.shards(is_spare=True)
        job = make_job(world.tenant)
        dispatch_round()
        assert (spare.state, fresh(job).attempt_number) == ("ready", 0)

    def test_are_used_at_once_when_a_job_waits_and_another_is_built_behind(self, world: PoolWorld) -> None:
        (spare,) = world.shards(is_spare=True)
        job = make_job(world.tenant)
        dispatch_round()
        assert use_spares() == [spare.name]
        world.start(job, spare)
        assert "1 jobs wait" in world.decisions()[-1].reason
        assert len(world.beat().built) == 1
        assert len(world.shards(is_spare=True)) == 1

    def test_stay_where_they_are_without_need(self, world: PoolWorld) -> None:
        assert use_spares() == []
        assert not world.beat().let_go

    def test_may_claim_nothing_themselves(self, world: PoolWorld) -> None:
        (spare,) = world.shards(is_spare=True)
        running, _ = world.shards()
        job = make_job(world.tenant)
        Shard.objects.filter(pk=running.pk).update(max_concurrent_jobs=2, report={"slots": 2})
        dispatch_round()
        assert fresh(job).attempt_number == 1
        assert world.runner(job, spare).claim().status_code == 409
