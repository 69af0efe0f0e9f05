"""What autoscaling does next with a pool, and why; pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum

from shards.autoscaling.rules import Rule, RuleSet


class Action(StrEnum):
    """What a decision asks for."""

    NOTHING = "nothing"
    BUILD = "build"
    REMOVE = "remove"


@dataclass(frozen=True)
class ShardView:
    """A shard of the pool, or one that is being built for it.

    Attributes:
        shard_type: such as ``general``.
        is_ready: whether it takes jobs; one that does not, and does not go either, is being built.
        is_leaving: drained, or being removed.
        running: jobs.
        slots: that it has, or will have.
        idle_since: when its last job ended, or it became ready; None while it runs any.
        is_fixed: nobody could remove it, such as a machine that was set up by hand.
    """

    name: str
    shard_type: str
    is_ready: bool
    is_leaving: bool
    running: int
    slots: int
    idle_since: datetime | None
    is_fixed: bool = False


@dataclass(frozen=True)
class PoolView:
    """A pool as it is at a moment.

    Attributes:
        shards: all that are there or being built.
        waits_s: how long each job has waited that could run here and waits for a slot.
        built_at, removed_at: when shards were last asked for, and when one was last let go.
        new_slots: of a shard that is built.
    """

    shards: Sequence[ShardView]
    waits_s: Sequence[float] = ()
    built_at: datetime | None = None
    removed_at: datetime | None = None
    new_slots: int = 1


@dataclass(frozen=True)
class Decision:
    """One decision, with what it was made from.

    Attributes:
        reason: a sentence.
        count: shards to build.
        remove: the shard to drain and, when it is idle, to remove.
        measured: by measure; ``shard_idle`` of the shard that is idle for longest.
        as_spares: what is built stands by until it is needed.
        held_back: something was wanted, and a limit did not allow it.
    """

    action: Action
    reason: str
    count: int = 0
    remove: str | None = None
    measured: dict[str, float] = field(default_factory=dict)
    as_spares: bool = False
    held_back: bool = False


def decide(rules: RuleSet, pool: PoolView, shard_type: str, now: datetime) -> Decision:
    """Decide what to do next; called again and again, it asks for nothing that it has asked for already.

    Args:
        rules: of the pool.
        pool: as it is.
        shard_type: of shards that it may build.
        now: UTC.
    """
    return _Deciding(rules, pool, shard_type, now).decide()


def measure(rules: RuleSet, pool: PoolView, now: datetime) -> dict[str, float]:
    """Everything that conditions may look at.

    Args:
        now: UTC.
    """
    staying = [shard for shard in pool.shards if not shard.is_leaving]
    ready = [shard for shard in staying if shard.is_ready]
    slots, running = sum(shard.slots for shard in ready), sum(shard.running for shard in ready)
    waits = sorted(pool.waits_s)
    idle = [_idle_s(shard, now) for shard in ready if not shard.is_fixed]
    return {
        "avg_queue_wait": sum(waits) / len(waits) if waits else 0.0,
        "p95_queue_wait": waits[math.ceil(0.95 * len(waits)) - 1] if waits else 0.0,
        "max_queue_wait": waits[-1] if waits else 0.0,
        "shard_idle": max(idle, default=0.0),
        "waiting_jobs": len(waits),
        "free_slots": sum(max(0, shard.slots - shard.running) for shard in ready),
        "shard_count": len(staying),
        "shards_building": len(staying) - len(ready),
        "min_shards": rules.least_at(now),
        "max_shards": rules.limits.max_shards,
        "utilisation": 100 * running / slots if slots else 100.0 if waits else 0.0,
        "all_shards_at_capacity": all(shard.running >= shard.slots for shard in ready),
    }


def _idle_s(shard: ShardView, now: datetime) -> float:
    if shard.running or shard.idle_since is None:
        return 0.0
    return max(0.0, (now - shard.idle_since).total_seconds())


class _Deciding:
    def __init__(self, rules: RuleSet, pool: PoolView, shard_type: str, now: datetime) -> None:
        self._rules, self._pool, self._now = rules, pool, now
        self._measured = measure(rules, pool, now)
        staying = [shard for shard in pool.shards if not shard.is_leaving]
        self._ready = [shard for shard in staying if shard.is_ready]
        self._building = [shard for shard in staying if not shard.is_ready]
        self._count = len(staying)
        # Those that leave are still there: limits count them too.
        of_type = sum(shard.shard_type == shard_type for shard in pool.shards)
        limits = rules.limits
        self._room = max(0, min(limits.max_shards - len(pool.shards), limits.max_shards_per_type - of_type))
        self._per_shard = max([pool.new_slots, *(shard.slots for shard in staying if shard.shard_type == shard_type)])

    def decide(self) -> Decision:
        for step in (self._up_to_the_least, self._down_to_the_most, self._for_waiting_jobs, self._spares, self._down):
            if (decision := step()) is not None:
                return decision
        return self._nothing("All is as the rules want it.")

    def _up_to_the_least(self) -> Decision | None:
        least = self._rules.least_at(self._now)
        if self._count >= least:
            return None
        return self._build(least - self._count, f"There are {self._count} shards, and {least} at least are wanted now.")

    def _down_to_the_most(self) -> Decision | None:
        most = self._rules.limits.max_shards
        if self._count <= most:
            return None
        idle = self._removable()
        if not idle:
            why = f"There are {self._count} shards, {most} at most are allowed, and none is idle."
            return replace(self._nothing(why), held_back=True)
        return self._remove(idle[0], f"There are {self._count} shards, and {most} at most are allowed.")

    def _for_waiting_jobs(self) -> Decision | None:
        rule, waiting = self._rules.scale_up, len(self._pool.waits_s)
        target, longest = self._rules.wait_target_s, self._measured["p95_queue_wait"]
        if target is not None and longest > target:
            why = f"95 % of jobs wait for up to {longest:.0f} s, and {target:.0f} s is the target."
        elif rule.condition.holds(self._measured):
            why = f"This holds: {rule.condition.text}."
        else:
            return None
        if (wait_s := self._cooldown_left(rule, self._pool.built_at)) > 0:
            return self._nothing(f"{why} The cooldown lasts for another {wait_s:.0f} s.")
        coming = sum(shard.slots for shard in self._building)
        if self._building and coming >= waiting:
            return self._nothing(f"{why} {len(self._building)} shards are being built, with {coming} slots.")
        return self._build(math.ceil((waiting - coming) / self._per_shard), why)

    def _spares(self) -> Decision | None:
        wanted = self._rules.warm_spares
        idle = len(self._idle()) + len(self._building)
        if idle >= wanted or self._cooldown_left(self._rules.scale_up, self._pool.built_at) > 0:
            return None
        # Where there is no room the rest of the rules still counts.
        if not self._room:
            return None
        return replace(self._build(wanted - idle, f"{idle} of {wanted} warm spares stand ready."), as_spares=True)

    def _down(self) -> Decision | None:
        rule, idle = self._rules.scale_down, self._removable()
        spare = len(self._idle()) > self._rules.warm_spares and self._count > self._rules.least_at(self._now)
        if not spare or not idle or not rule.condition.holds(self._measured):
            return None
        why = f"This holds: {rule.condition.text}."
        # After any change: what was built just now is not torn down again.
        last = max(filter(None, (self._pool.built_at, self._pool.removed_at)), default=None)
        if (wait_s := self._cooldown_left(rule, last)) > 0:
            return self._nothing(f"{why} The cooldown lasts for another {wait_s:.0f} s.")
        return self._remove(idle[0], why)

    def _idle(self) -> list[ShardView]:
        """Shards that run nothing, the one that has stood idle for longest first."""
        idle = [shard for shard in self._ready if not shard.running]
        return sorted(idle, key=lambda shard: (-_idle_s(shard, self._now), shard.name))

    def _removable(self) -> list[ShardView]:
        return [shard for shard in self._idle() if not shard.is_fixed]

    def _cooldown_left(self, rule: Rule, last: datetime | None) -> float:
        if last is None:
            return 0.0
        return (last + timedelta(seconds=rule.cooldown_s) - self._now).total_seconds()

    def _build(self, count: int, why: str) -> Decision:
        count = min(max(1, count), self._room)
        if not count:
            limits = self._rules.limits
            room = f"{limits.max_shards} shards, {limits.max_shards_per_type} of a type"
            return replace(self._nothing(f"{why} The limits leave no room: {room}."), held_back=True)
        return Decision(Action.BUILD, why, count=count, measured=self._measured)

    def _remove(self, shard: ShardView, why: str) -> Decision:
        return Decision(Action.REMOVE, why, remove=shard.name, measured=self._measured)

    def _nothing(self, why: str) -> Decision:
        return Decision(Action.NOTHING, why, measured=self._measured)
