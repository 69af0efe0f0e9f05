"""Scaled pool with containers in memory, whose shards enrol and report by real calls."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.db.models.functions import Now

from jobs.capacity.pool_load import is_busy, load_of
from jobs.dispatch.round import dispatch_round
from jobs.models import Attempt, Job
from jobs.models.states import AttemptState
from myctobot.lib.sql import fetch_one
from myctobot.tenants.models import Tenant
from shards.autoscaling.models import ScalingDecision
from shards.autoscaling.scaler import ScalingResult, scale
from shards.models import Assignment, Pool, Shard, ShardTemplate
from shards.operations.executor import carry_out
from shards.operations.models import Operation
from shards.providers.base import ContainerSpec, Journal
from shards.providers.errors import OutOfRoom
from tests.factories.control_plane import Runner, number_of
from tests.factories.operations import LivelyProvider

RULES: dict[str, Any] = {
    "scale_up": {"condition": "waiting_jobs > 0 AND all_shards_at_capacity", "cooldown": "0s"},
    "scale_down": {"condition": "shard_idle >= 0s AND shard_count > min_shards", "cooldown": "0s"},
    "limits": {"min_shards": 1, "max_shards": 3, "max_shards_per_type": 3},
}


class FullProvider(LivelyProvider):
    """Provider in memory that has no room for another container while ``is_full`` is set."""

    is_full = False

    def create(self, spec: ContainerSpec, journal: Journal) -> str:
        if self.is_full:
            raise OutOfRoom
        return super().create(spec, journal)

    def restore(self, ref: str, label: str, journal: Journal) -> None:
        if self.is_full:
            raise OutOfRoom
        super().restore(ref, label, journal)


class PoolWorld:
    """Pool with a tenant, and the events that tests cause.

    Args:
        rules: parts that replace those of ``RULES``.
    """

    def __init__(
        self, maker: FullProvider, tenant: Tenant, name: str = "blue", mode: str = "persistent", **rules: Any
    ) -> None:
        self.maker, self.tenant = maker, tenant
        template, _ = ShardTemplate.objects.get_or_create(
            name="general", defaults={"shard_type": "general", "capabilities": ["filesystem", "git"]}
        )
        self.pool = Pool.objects.create(
            name=name, mode=mode, provider="memory", template=template, scaling_rules={**RULES, **rules},
            scaling_dry_run=False,
        )  # fmt: skip
        Assignment.objects.create(tenant=tenant, pool=self.pool)

    def autoscale(self) -> ScalingResult:
        """Report all shards as healthy, run one autoscaling pass, and return its result."""
        Shard.objects.exclude(last_heartbeat_at=None).update(last_heartbeat_at=Now())
        self.pool.refresh_from_db()
        now = clock_timestamp()
        found = scale(self.pool, load_of(self.pool, self._waits(), now), is_busy, now)
        assert found is not None
        return found

    def _waits(self) -> list[float]:
        return [1.0] * Job.objects.filter(tenant=self.tenant, status="queued", hold="").count()

    def operate(self) -> list[Operation]:
        """Carry out the queued operations, and return them."""
        waiting = list(Operation.objects.filter(state="queued").order_by("pk"))
        for operation in waiting:
            carry_out(operation.pk)
            operation.refresh_from_db()
        return waiting

    def grow(self) -> None:
        """Autoscale and build until the pool satisfies its rules."""
        while self.autoscale().built:
            self.operate()

    def shards(self, **fields: Any) -> list[Shard]:
        return list(Shard.objects.filter(pool=self.pool, **fields).order_by("name"))

    def states(self) -> dict[str, str]:
        return {shard.name: shard.state for shard in self.shards()}

    def decisions(self) -> list[ScalingDecision]:
        return list(ScalingDecision.objects.filter(pool=self.pool).order_by("pk"))

    def key_of(self, shard: Shard) -> str:
        shard.refresh_from_db()
        return str(self.maker.configs[shard.provider_ref]["shard_key"])

    def runner(self, job: Job, shard: Shard, token: str = "t" * 40) -> Runner:
        return Runner(self.key_of(shard), job, number_of(job), token)

    def start(self, job: Job, shard: Shard) -> Runner:
        """Dispatch a waiting job and claim it for a shard."""
        dispatch_round()
        runner = self.runner(job, shard)
        answer = runner.claim()
        assert answer.status_code == 200, answer.content
        return runner


def clock_timestamp() -> datetime:
    """Return the clock time of the database, because ``now()`` is constant within the transaction of a test."""
    (now,) = fetch_one("SELECT clock_timestamp()", []) or (None,)
    assert isinstance(now, datetime)
    return now


def running_on(shard: Shard) -> int:
    return Attempt.objects.filter(shard=shard, state=AttemptState.RUNNING).count()
