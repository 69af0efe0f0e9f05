"""Backoff after failed builds: the number of shards that a pool may build now; pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

# After this many failures in a row, building pauses until an operator resumes it or PAUSE has passed.
PAUSE_AFTER: Final = 3
PAUSE: Final = timedelta(hours=1)
# Wait after the first failure; each further failure doubles it.
_FIRST_WAIT: Final = timedelta(seconds=30)


@dataclass(frozen=True)
class Build:
    """Build that has ended.

    Attributes:
        error: why it failed; empty after a success.
    """

    ended_at: datetime
    error: str


@dataclass(frozen=True)
class BuildAllowance:
    """Number of shards that may be built now.

    Attributes:
        maximum: None means no limit.
        reason: a sentence, if there is a limit.
        is_paused: building is paused, and an operator is alerted.
    """

    maximum: int | None
    reason: str = ""
    is_paused: bool = False


def build_allowance(
    ended: Sequence[Build], under_way: int, resumed_at: datetime | None, now: datetime
) -> BuildAllowance:
    """Return how many shards may be built now.

    After a failure, shards are built one at a time with growing waits. After three failures, building pauses.

    Args:
        ended: builds of the pool, the latest first.
        under_way: number of builds that have not ended.
        resumed_at: when an operator last resumed building; earlier failures do not count.
        now: UTC.
    """
    failed: list[Build] = []
    for build in ended:
        if not build.error or (resumed_at is not None and build.ended_at <= resumed_at):
            break
        failed.append(build)
    if not failed:
        return BuildAllowance(None)
    last = failed[0]
    if len(failed) >= PAUSE_AFTER and now < last.ended_at + PAUSE:
        until = last.ended_at + PAUSE
        reason = f"{len(failed)} builds in a row failed. Building is paused until {until:%H:%M} UTC: {last.error}"
        return BuildAllowance(0, reason, is_paused=True)
    # After a pause, one build is tried. If it fails, the next pause begins.
    wait = _FIRST_WAIT * 2 ** (len(failed) - 1) if len(failed) < PAUSE_AFTER else timedelta(0)
    if under_way or now < last.ended_at + wait:
        return BuildAllowance(0, f"The last build failed. The next one waits its turn: {last.error}")
    return BuildAllowance(1, f"The last build failed. Shards are built one at a time: {last.error}")
