"""When to start an ended process again, and when to give up."""

from __future__ import annotations

from dataclasses import dataclass

# A process that lived this long had started properly: its end is a crash, not a failed start.
STEADY_AFTER_S = 5.0
MAX_FAILED_STARTS = 5
FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 10.0


@dataclass(frozen=True)
class Restart:
    after_s: float
    failed_starts: int


@dataclass(frozen=True)
class GiveUp:
    failed_starts: int


def after_exit(failed_starts: int, lived_s: float) -> Restart | GiveUp:
    """Decide what follows the end of a process that nobody asked to end.

    Args:
        failed_starts: how many starts in a row had failed before this one.
        lived_s: how long it ran this time, in seconds.
    """
    if lived_s >= STEADY_AFTER_S:
        return Restart(FIRST_WAIT_S, 0)
    failed = failed_starts + 1
    if failed >= MAX_FAILED_STARTS:
        return GiveUp(failed)
    return Restart(min(FIRST_WAIT_S * 2 ** (failed - 1), LONGEST_WAIT_S), failed)
