"""Whether a shard may be given work, and what its silence or its voice makes of its state; pure.

A shard that is silent gets no work at once. Its state follows with hysteresis: it has to be heard steadily before it is
trusted again, and for longer when it comes and goes.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from myctobot.contract.jobs import HEARTBEAT_EVERY_S, LOST_AFTER_S
from shards.lifecycle.states import DRAINING, LOST, READY, SUSPECT

# Three heartbeats: one may be lost, a second may be late.
SILENT_AFTER: Final = timedelta(seconds=3 * HEARTBEAT_EVERY_S)
# When its runners are given up as well.
LOST_AFTER: Final = timedelta(seconds=LOST_AFTER_S)
STEADY_FOR: Final = timedelta(seconds=10)
# So many falls within so long, and it has to be steady for longer.
FLAPPING_FALLS: Final = 3
FLAPPING_WITHIN: Final = timedelta(minutes=10)
FLAPPING_STEADY_FOR: Final = timedelta(seconds=60)

# Whoever asks is alive, whatever was thought of it meanwhile: what was sent to it before stands.
_TAKE_JOBS: Final = frozenset({READY, SUSPECT, LOST})


@dataclass(frozen=True)
class Condition:
    """What is known of a shard when its state is judged.

    Attributes:
        is_active: the operator's switch; one that is off may be silent.
        is_worked_on: an operation is under way, for which its worker may have to stop.
        must_drain: an open drain, or a job that it must be made anew after; then it comes back to that.
        last_heartbeat_at: None when it has never been heard of.
        steady_since: its first heartbeat since it was silent last.
        falls: how often it became suspect within ``FLAPPING_WITHIN``.
    """

    state: str
    state_since: datetime
    is_active: bool = True
    is_worked_on: bool = False
    must_drain: bool = False
    last_heartbeat_at: datetime | None = None
    steady_since: datetime | None = None
    falls: int = 0


@dataclass(frozen=True)
class Change:
    """Where a shard goes, and why, for operators."""

    to: str
    reason: str


def next_state(shard: Condition, *, heard_since: datetime, now: datetime) -> Change | None:
    """Say what becomes of a shard; None when it stays what it is.

    Args:
        shard: see there.
        heard_since: since when the control plane could hear its shards without a break: the silence before is its own.
        now: the database's clock.
    """
    heard = shard.last_heartbeat_at is not None and now - shard.last_heartbeat_at <= SILENT_AFTER
    if heard:
        return _back(shard, now) if shard.state in (SUSPECT, LOST) else None
    if not shard.is_active or shard.is_worked_on:
        return None
    silent_for = now - max(shard.last_heartbeat_at or shard.state_since, heard_since)
    if shard.state == READY and silent_for > SILENT_AFTER:
        return Change(SUSPECT, _silence(shard))
    if shard.state in (SUSPECT, DRAINING) and silent_for > LOST_AFTER:
        return Change(LOST, _silence(shard))
    return None


def _back(shard: Condition, now: datetime) -> Change | None:
    if shard.must_drain:
        return Change(DRAINING, "Heard of again; the drain goes on.")
    if shard.state == LOST:
        return Change(SUSPECT, "Heard of again; it takes jobs when it has been heard steadily.")
    wanted = FLAPPING_STEADY_FOR if shard.falls >= FLAPPING_FALLS else STEADY_FOR
    if shard.steady_since is None or now - shard.steady_since < wanted:
        return None
    return Change(READY, f"Heard steadily for {wanted.total_seconds():.0f} s.")


def _silence(shard: Condition) -> str:
    return f"Silent since {shard.last_heartbeat_at:%H:%M:%S} UTC." if shard.last_heartbeat_at else "Never heard of."


def may_take_jobs(*, is_active: bool, is_spare: bool, state: str) -> bool:
    """Whether a shard may take what is in its queues; a worker that may not is told to drain."""
    return is_active and not is_spare and state in _TAKE_JOBS


def why_not_healthy(*, is_active: bool, state: str, last_heartbeat_at: datetime | None, now: datetime) -> str | None:
    """Say in a few words why a shard takes no job, or None when it does.

    Args:
        is_active: the operator's switch.
        state: a ``ShardState`` value.
        last_heartbeat_at: None when it has never been heard of.
        now: the database's clock.
    """
    if not is_active:
        return "switched off"
    if last_heartbeat_at is None:
        return "never heard of"
    silent = f"silent since {last_heartbeat_at:%H:%M:%S} UTC" if now - last_heartbeat_at > SILENT_AFTER else None
    # Of one that is suspect or lost this says more.
    if silent and state in _TAKE_JOBS:
        return silent
    if state == SUSPECT:
        return "suspect: heard of again, and not for long enough"
    return None if state == READY else str(state)


def closed_phrase(verb: str, by: str, at: datetime, reason: str) -> str:
    """Say who closed something, when and why, e.g. ``draining since 12:03 UTC by anna: kernel update``."""
    return f"{verb} since {at:%H:%M} UTC by {by}: {reason}"
