"""A pool as autoscaling looks at it, made from its shards and from what jobs have to do with them; pure.

Shards know nothing of jobs. Whoever does hands in a ``Load``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from shards.autoscaling.decisions import ShardView
from shards.health.rules import SILENT_AFTER
from shards.lifecycle.states import DRAINING, GONE, PROVISIONING, READY, REQUESTED, SUSPECT


@dataclass(frozen=True)
class Load:
    """What jobs have to do with a pool.

    Attributes:
        running: attempts that a shard holds, or that are on their way to it alone, by its id.
        last_end: when the latest attempt on a shard ended, by its id.
        waits_s: how long each job has waited that waits for a slot, and that this pool is to serve.
    """

    running: Mapping[int, int] = field(default_factory=dict)
    last_end: Mapping[int, datetime] = field(default_factory=dict)
    waits_s: Sequence[float] = ()


@dataclass(frozen=True)
class Member:
    """A shard of a pool.

    Attributes:
        is_ephemeral: whether it is made anew after each job.
        is_worked_on: whether an operation is under way.
        is_closed: whether it is drained by an operator, or let go.
        is_given_up: whether it was tried in vain to make it anew.
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
    is_worked_on: bool = False
    is_closed: bool = False
    is_given_up: bool = False

    @property
    def counts(self) -> bool:
        """Whether it takes up room: one that was never made, or could not be, does not."""
        return self.state != GONE and (self.state != REQUESTED or self.is_worked_on or self.has_container)

    @property
    def comes_back(self) -> bool:
        """Whether it drains only because of its one job, and is there again after it."""
        return self.is_ephemeral and self.is_used and not self.is_closed and not self.is_given_up

    def seen(self, load: Load, now: datetime) -> ShardView:
        """How decisions look at it."""
        running = load.running.get(self.pk, 0)
        at_its_job = self.comes_back and running > 0
        heard = self.last_heartbeat_at is not None and now - self.last_heartbeat_at <= SILENT_AFTER
        ready = at_its_job or (self.state == READY and heard and not (self.is_ephemeral and self.is_used))
        idle_since = max(self.state_since, load.last_end.get(self.pk, self.state_since))
        return ShardView(
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
        if not self.is_active or self.is_closed:
            return False
        if self.state == DRAINING:
            return self.comes_back
        if self.state in (REQUESTED, PROVISIONING):
            # What failed halfway is tried again where it is made anew after each job.
            tried_again = self.state == PROVISIONING and self.is_ephemeral and not self.is_given_up
            return self.is_worked_on or tried_again
        return self.state in (READY, SUSPECT) and not self.is_given_up


def seen(members: Iterable[Member], load: Load, now: datetime) -> list[ShardView]:
    """All that take up room, as decisions look at them."""
    return [member.seen(load, now) for member in members if member.counts]
