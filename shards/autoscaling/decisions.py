"""Scaling decisions: the next change of a pool's size and its reason; pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum

from shards.autoscaling.rules import Rule, RuleSet


class Action(StrEnum):
    """Kind of change that a decision asks for."""

    NOTHING = "nothing"
    BUILD = "build"
    REMOVE = "remove"


@dataclass(frozen=True)
class ScalableShard:
    """Shard of the pool, or one that is being built for it.

    Attributes:
        shard_type: a ``ShardType`` value, such as ``general``.
        is_ready: the shard takes jobs. A shard that is neither ready nor leaving is being built.
        is_leaving: the shard is drained or being removed.
        running: number of jobs.
        slots: number of slots that the shard has or will have.
        idle_since: when its last job ended or it became ready; None while it runs a job.
        is_fixed: autoscaling cannot remove the shard, for example a machine that an operator set up.
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
    """State of a pool at one moment.

    Attributes:
        shards: shards that exist or are being built.
        waits_s: wait of each job that could run here and waits for a slot.
        built_at, removed_at: when shards were last requested, and when one was last released.
        new_slots: slots of a new shard.
    """

    shards: Sequence[ScalableShard]
    waits_s: Sequence[float] = ()
    built_at: datetime | None = None
    removed_at: datetime | None = None
    new_slots: int = 1


@dataclass(frozen=True)
class Decision:
    """Decision with the measures that it is based on.

    Attributes:
        reason: a sentence.
        count: number of shards to build.
        remove: the shard to drain and, when it is idle, to remove.
        measured: values by measure; ``shard_idle`` is that of the shard with the longest idle time.
        as_spares: new shards become warm spares.
        held_back: a limit prevented a change that the rules ask for.
    """

    action: Action
    reason: str
    count: int = 0
    remove: str | None = None
    measured: dict[str, float] = field(default_factory=dict)
    as_spares: bool = False
    held_back: bool = False


def decide(rules: RuleSet, pool: PoolView, shard_type: str, now: datetime) -> Decision:
    """Decide the next change. Repeated calls do not request the same change twice.

    Args:
        rules: rules of the pool.
        pool: present state of the pool.
        shard_type: type of the shards that the pool builds.
        now: UTC.
    """
    return _PoolDecision(rules, pool, shard_type, now).decide()


def measure(rules: RuleSet, pool: PoolView, now: datetime) -> dict[str, float]:
    """Return all measures that conditions may use.

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
        "min_shards": rules.minimum_at(now),
        "max_shards": rules.limits.max_shards,
        "utilisation": 100 * running / slots if slots else 100.0 if waits else 0.0,
        "all_shards_at_capacity": all(shard.running >= shard.slots for shard in ready),
    }


def _idle_s(shard: ScalableShard, now: datetime) -> float:
    if shard.running or shard.idle_since is None:
        return 0.0
    return max(0.0, (now - shard.idle_since).total_seconds())


class _PoolDecision:
    def __init__(self, rules: RuleSet, pool: PoolView, shard_type: str, now: datetime) -> None:
        self._rules, self._pool, self._now = rules, pool, now
        self._measured = measure(rules, pool, now)
        staying = [shard for shard in pool.shards if not shard.is_leaving]
        self._ready = [shard for shard in staying if shard.is_ready]
        self._building = [shard for shard in staying if not shard.is_ready]
        self._count = len(staying)
        # Leaving shards still exist, so the limits count them too.
        of_type = sum(shard.shard_type == shard_type for shard in pool.shards)
        limits = rules.limits
        self._room = max(0, min(limits.max_shards - len(pool.shards), limits.max_shards_per_type - of_type))
        self._per_shard = max([pool.new_slots, *(shard.slots for shard in staying if shard.shard_type == shard_type)])

    def decide(self) -> Decision:
        for step in (self._meet_minimum, self._meet_maximum, self._serve_waiting, self._add_spares, self._scale_down):
            if (decision := step()) is not None:
                return decision
        return self._nothing("The rules ask for no change.")

    def _meet_minimum(self) -> Decision | None:
        minimum = self._rules.minimum_at(self._now)
        if self._count >= minimum:
            return None
        return self._build(minimum - self._count, f"There are {self._count} shards; the minimum is {minimum} now.")

    def _meet_maximum(self) -> Decision | None:
        maximum = self._rules.limits.max_shards
        if self._count <= maximum:
            return None
        reason = f"There are {self._count} shards; the maximum is {maximum}."
        idle = self._removable()
        if not idle:
            return replace(self._nothing(f"{reason} No shard is idle."), held_back=True)
        return self._remove(idle[0], reason)

    def _serve_waiting(self) -> Decision | None:
        rule, waiting = self._rules.scale_up, len(self._pool.waits_s)
        target, longest = self._rules.wait_target_s, self._measured["p95_queue_wait"]
        if target is not None and longest > target:
            reason = f"95 % of jobs wait for up to {longest:.0f} s; the target is {target:.0f} s."
        elif rule.condition.holds(self._measured):
            reason = f"The condition is true: {rule.condition.text}."
        else:
            return None
        if (wait_s := self._cooldown_left(rule, self._pool.built_at)) > 0:
            return self._nothing(f"{reason} The cooldown ends in {wait_s:.0f} s.")
        coming = sum(shard.slots for shard in self._building)
        if self._building and coming >= waiting:
            return self._nothing(f"{reason} {len(self._building)} shards are being built, with {coming} slots.")
        return self._build(math.ceil((waiting - coming) / self._per_shard), reason)

    def _add_spares(self) -> Decision | None:
        wanted = self._rules.warm_spares
        idle = len(self._idle()) + len(self._building)
        if idle >= wanted or self._cooldown_left(self._rules.scale_up, self._pool.built_at) > 0:
            return None
        # Without room, the remaining rules still apply.
        if not self._room:
            return None
        return replace(self._build(wanted - idle, f"{idle} of {wanted} warm spares are ready."), as_spares=True)

    def _scale_down(self) -> Decision | None:
        rule, idle = self._rules.scale_down, self._removable()
        spare = len(self._idle()) > self._rules.warm_spares and self._count > self._rules.minimum_at(self._now)
        if not spare or not idle or not rule.condition.holds(self._measured):
            return None
        reason = f"The condition is true: {rule.condition.text}."
        # Count the cooldown from builds too, so that a new shard is not removed at once.
        last = max(filter(None, (self._pool.built_at, self._pool.removed_at)), default=None)
        if (wait_s := self._cooldown_left(rule, last)) > 0:
            return self._nothing(f"{reason} The cooldown ends in {wait_s:.0f} s.")
        return self._remove(idle[0], reason)

    def _idle(self) -> list[ScalableShard]:
        """Return shards that run nothing, the longest idle first."""
        idle = [shard for shard in self._ready if not shard.running]
        return sorted(idle, key=lambda shard: (-_idle_s(shard, self._now), shard.name))

    def _removable(self) -> list[ScalableShard]:
        return [shard for shard in self._idle() if not shard.is_fixed]

    def _cooldown_left(self, rule: Rule, last: datetime | None) -> float:
        if last is None:
            return 0.0
        return (last + timedelta(seconds=rule.cooldown_s) - self._now).total_seconds()

    def _build(self, count: int, reason: str) -> Decision:
        count = min(max(1, count), self._room)
        if not count:
            limits = self._rules.limits
            text = f"{limits.max_shards} shards, {limits.max_shards_per_type} of a type"
            return replace(self._nothing(f"{reason} The limits allow no more: {text}."), held_back=True)
        return Decision(Action.BUILD, reason, count=count, measured=self._measured)

    def _remove(self, shard: ScalableShard, reason: str) -> Decision:
        return Decision(Action.REMOVE, reason, remove=shard.name, measured=self._measured)

    def _nothing(self, reason: str) -> Decision:
        return Decision(Action.NOTHING, reason, measured=self._measured)
