"""Restart policy of the supervisor. Pure."""

from __future__ import annotations

from dataclasses import dataclass

# A process that ran this long had started: its end is a crash and not a failed start. Imports may take seconds.
STABLE_AFTER_S = 15.0
FIRST_WAIT_S = 0.5
MAX_WAIT_S = 30.0


@dataclass(frozen=True)
class Restart:
    after_s: float
    failed_starts: int


@dataclass(frozen=True)
class GiveUp:
    failed_starts: int


def decide_restart(failed_starts: int, lived_s: float, give_up_after: int | None = None) -> Restart | GiveUp:
    """Decide about a restart after a process ended without a request.

    Args:
        failed_starts: number of consecutive failed starts before this one.
        lived_s: how long the process ran this time, in seconds.
        give_up_after: number of consecutive failed starts after which there is no other one; None for no such number.
    """
    if lived_s >= STABLE_AFTER_S:
        return Restart(FIRST_WAIT_S, 0)
    failed = failed_starts + 1
    if give_up_after is not None and failed >= give_up_after:
        return GiveUp(failed)
    # The exponent has a bound, because there may be thousands of starts.
    return Restart(min(FIRST_WAIT_S * 2 ** min(failed - 1, 10), MAX_WAIT_S), failed)
