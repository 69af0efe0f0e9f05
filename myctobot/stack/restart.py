"""Restart policy of the supervisor. Pure."""

from __future__ import annotations

from dataclasses import dataclass

# A process that ran this long had started: its end is a crash and not a failed start.
STABLE_AFTER_S = 5.0
MAX_FAILED_STARTS = 5
FIRST_WAIT_S = 0.5
MAX_WAIT_S = 10.0


@dataclass(frozen=True)
class Restart:
    after_s: float
    failed_starts: int


@dataclass(frozen=True)
class GiveUp:
    failed_starts: int


def decide_restart(failed_starts: int, lived_s: float) -> Restart | GiveUp:
    """Decide about a restart after a process ended without a request.

    Args:
        failed_starts: number of consecutive failed starts before this one.
        lived_s: how long the process ran this time, in seconds.
    """
    if lived_s >= STABLE_AFTER_S:
        return Restart(FIRST_WAIT_S, 0)
    failed = failed_starts + 1
    if failed >= MAX_FAILED_STARTS:
        return GiveUp(failed)
    return Restart(min(FIRST_WAIT_S * 2 ** (failed - 1), MAX_WAIT_S), failed)
