"""View of a pool for scaling decisions, built from its shards and their load; pure.

This package does not know jobs. The caller passes their load as a ``PoolLoad``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from shards.autoscaling.decisions import ScalableShard
from shards.lifecycle.states import DRAINING, GONE, PROVISIONING, READY, REQUESTED, SUSPECT
from shards.models.timeouts import SILENT_AFTER


@dataclass(frozen=True)
class PoolLoad:
    """Load that jobs put on a pool.

    Attributes:
        running: attempts that a shard runs or that were sent to its own queue, by shard id.
        last_end: when the latest attempt ended, by shard id.
        waits_s: wait of each job that this pool shall serve and that waits for a slot.
    """

    running: Mapping[int, int] = field(default_factory=dict)
    last_end: Mapping[int, datetime] = field(default_factory=dict)
    waits_s: Sequence[float] = ()


@dataclass(frozen=True)
class PoolMember:
    """Shard of a pool.

    Attributes:
        is_ephemeral: the shard is re-created after each job.
        has_operation: an operation is queued or running.
        is_suspended: the shard was drained by an operator or released by autoscaling.
        recycle_failed: all tries to re-create the shard failed.
    """

    pk: int
    name: str
    shard_type: str
    state: str
    state_since: datetime
    is_active: bool
    is_used: bool
    slots: int
    last_heartbeat_at: datetime | None
    has_container: bool
    is_ephemeral: bool = False
    has_operation: bool = False
    is_suspended: bool = False
    recycle_failed: bool = False

    @property
    def counts(self) -> bool:
        """Tell whether the shard counts towards the limits; one that was never built does not."""
        return self.state != GONE and (self.state != REQUESTED or self.has_operation or self.has_container)

    @property
    def returns_after_job(self) -> bool:
        """Tell whether the shard drains only for its one job and takes jobs again after it."""
        return self.is_ephemeral and self.is_used and not self.is_suspended and not self.recycle_failed

    def observe(self, load: PoolLoad, now: datetime) -> ScalableShard:
        """Return the shard as scaling decisions see it."""
        running = load.running.get(self.pk, 0)
        runs_its_job = self.returns_after_job and running > 0
        reports = self.last_heartbeat_at is not None and now - self.last_heartbeat_at <= SILENT_AFTER
        ready = runs_its_job or (self.state == READY and reports and not (self.is_ephemeral and self.is_used))
        idle_since = max(self.state_since, load.last_end.get(self.pk, self.state_since))
        return ScalableShard(
            name=self.name,
            shard_type=self.shard_type,
            is_ready=ready,
            is_leaving=not self._stays(),
            running=running,
            slots=self.slots,
            idle_since=None if running else idle_since,
            is_fixed=not self.has_container,
        )

    def _stays(self) -> bool:
        if not self.is_active or self.is_suspended:
            return False
        if self.state == DRAINING:
            return self.returns_after_job
        if self.state in (REQUESTED, PROVISIONING):
            # Recycling retries an ephemeral shard that failed halfway.
            is_retried = self.state == PROVISIONING and self.is_ephemeral and not self.recycle_failed
            return self.has_operation or is_retried
        return self.state in (READY, SUSPECT) and not self.recycle_failed


def observe_pool(members: Iterable[PoolMember], load: PoolLoad, now: datetime) -> list[ScalableShard]:
    """Return the shards that count, as scaling decisions see them."""
    return [member.observe(load, now) for member in members if member.counts]
