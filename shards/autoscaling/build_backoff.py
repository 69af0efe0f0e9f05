"""Whether a pool may go on building after builds that failed; pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

# So many in a row, and nobody builds until an operator looked or an hour passed.
PAUSE_AFTER: Final = 3
PAUSE: Final = timedelta(hours=1)
# After the first failure; doubled by each that follows.
_FIRST_WAIT: Final = timedelta(seconds=30)


@dataclass(frozen=True)
class Build:
    """A build that has ended.

    Attributes:
        error: why it failed; empty when it did not.
    """

    ended_at: datetime
    error: str


@dataclass(frozen=True)
class Leave:
    """How many shards may be built now.

    Attributes:
        most: None is without bound.
        reason: a sentence, when it is bounded.
        is_paused: whether somebody had better look.
    """

    most: int | None
    reason: str = ""
    is_paused: bool = False


def leave_to_build(ended: Sequence[Build], under_way: int, resumed_at: datetime | None, now: datetime) -> Leave:
    """Say how many may be built now: after a failure one at a time, later each time, and after three none.

    Args:
        ended: of the pool, the latest first.
        under_way: builds that have not ended.
        resumed_at: when an operator last said to go on; what failed before does not count.
        now: UTC.
    """
    failed: list[Build] = []
    for build in ended:
        if not build.error or (resumed_at is not None and build.ended_at <= resumed_at):
            break
        failed.append(build)
    if not failed:
        return Leave(None)
    last = failed[0]
    if len(failed) >= PAUSE_AFTER and now < last.ended_at + PAUSE:
        until = last.ended_at + PAUSE
        why = f"{len(failed)} builds in a row failed, so nothing is built before {until:%H:%M} UTC: {last.error}"
        return Leave(0, why, is_paused=True)
    # After a pause one is tried, and its failure is followed by the next pause.
    wait = _FIRST_WAIT * 2 ** (len(failed) - 1) if len(failed) < PAUSE_AFTER else timedelta(0)
    if under_way or now < last.ended_at + wait:
        return Leave(0, f"The last build failed, so one is tried at a time, the next one soon: {last.error}")
    return Leave(1, f"The last build failed, so one is tried at a time: {last.error}")
