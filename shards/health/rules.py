"""Health rules: the state that follows from a shard's heartbeats, and the reason why it takes no jobs; pure.

A silent shard gets no jobs at once. Its state follows with hysteresis: a returning shard has to report steadily before
it takes jobs again, and for longer if it is flapping.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from shards.lifecycle.states import DRAINING, LOST, READY, SUSPECT
from shards.models.timeouts import FLAPPING_COUNT, FLAPPING_STEADY_FOR, LOST_AFTER, SILENT_AFTER, STEADY_FOR

# A worker that asks is alive, so it may take the jobs that were sent to it even if its state is suspect or lost.
_TAKE_JOBS: Final = frozenset({READY, SUSPECT, LOST})


@dataclass(frozen=True)
class HealthInputs:
    """Facts about a shard that its next state depends on.

    Attributes:
        is_active: the operator's switch; a shard that is switched off may be silent.
        has_operation: an operation is queued or running, which may stop the worker.
        must_drain: the shard is drained, or has to be re-created after its job; it returns to ``draining``.
        last_heartbeat_at: None before the first heartbeat.
        steady_since: first heartbeat since the last silence.
        suspect_count: how often the shard became suspect within ``FLAPPING_WITHIN``.
        sandbox_problem: reason why its sandboxes fail, by its last report; empty if they work.
    """

    state: str
    state_since: datetime
    is_active: bool = True
    has_operation: bool = False
    must_drain: bool = False
    last_heartbeat_at: datetime | None = None
    steady_since: datetime | None = None
    suspect_count: int = 0
    sandbox_problem: str = ""


@dataclass(frozen=True)
class Change:
    """Next state of a shard, and the reason for operators."""

    to: str
    reason: str


def next_state(shard: HealthInputs, *, reachable_since: datetime, now: datetime) -> Change | None:
    """Return the next state of a shard, or None if its state does not change.

    Args:
        shard: the facts about it.
        reachable_since: end of the control plane's last outage; silence counts from then.
        now: the database's clock.
    """
    reports = shard.last_heartbeat_at is not None and now - shard.last_heartbeat_at <= SILENT_AFTER
    if reports:
        return _returning_state(shard, now) if shard.state in (SUSPECT, LOST) else None
    if not shard.is_active or shard.has_operation:
        return None
    silent_for = now - max(shard.last_heartbeat_at or shard.state_since, reachable_since)
    if shard.state == READY and silent_for > SILENT_AFTER:
        return Change(SUSPECT, _silence(shard))
    if shard.state in (SUSPECT, DRAINING) and silent_for > LOST_AFTER:
        return Change(LOST, _silence(shard))
    return None


def _returning_state(shard: HealthInputs, now: datetime) -> Change | None:
    if shard.must_drain:
        return Change(DRAINING, "Reports again; the drain continues.")
    if shard.state == LOST:
        return Change(SUSPECT, "Reports again; it takes jobs after it has reported steadily.")
    if shard.sandbox_problem:
        # It must run no job without a sandbox, so it stays suspect until its worker's own test succeeds.
        return None
    required = FLAPPING_STEADY_FOR if shard.suspect_count >= FLAPPING_COUNT else STEADY_FOR
    if shard.steady_since is None or now - shard.steady_since < required:
        return None
    return Change(READY, f"Reported steadily for {required.total_seconds():.0f} s.")


def _silence(shard: HealthInputs) -> str:
    return f"Silent since {shard.last_heartbeat_at:%H:%M:%S} UTC." if shard.last_heartbeat_at else "Never reported."


def sandbox_failure(problem: str) -> str:
    """Return the reason of a shard's state while its sandboxes fail."""
    return f"Its sandbox fails, and no job runs without one: {problem}"


def may_take_jobs(*, is_active: bool, is_spare: bool, state: str) -> bool:
    """Tell whether a shard may take jobs from its queues; otherwise its worker gets the order to drain."""
    return is_active and not is_spare and state in _TAKE_JOBS


def unhealthy_reason(
    *, is_active: bool, state: str, last_heartbeat_at: datetime | None, now: datetime, sandbox_fails: bool = False
) -> str | None:
    """Return a short reason why a shard takes no jobs, or None if it does.

    Args:
        is_active: the operator's switch.
        state: a ``ShardState`` value.
        last_heartbeat_at: None before the first heartbeat.
        now: the database's clock.
        sandbox_fails: its last report has a ``sandbox_problem``.
    """
    if not is_active:
        return "switched off"
    if last_heartbeat_at is None:
        return "never reported"
    silent = f"silent since {last_heartbeat_at:%H:%M:%S} UTC" if now - last_heartbeat_at > SILENT_AFTER else None
    # For a suspect or lost shard, the time says more than the state.
    if silent and state in _TAKE_JOBS:
        return silent
    if sandbox_fails and state == SUSPECT:
        return "suspect: its sandbox fails"
    if state == SUSPECT:
        return "suspect: reports again, but not yet for long enough"
    return None if state == READY else str(state)


def suspension_text(verb: str, by: str, at: datetime, reason: str) -> str:
    """Describe a suspension, e.g. ``draining since 12:03 UTC by anna: kernel update``."""
    return f"{verb} since {at:%H:%M} UTC by {by}: {reason}"
