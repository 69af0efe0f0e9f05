"""How often operators are told, when again, and how several things are told at once; pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

# What breaks together, breaks within a heartbeat and a look: so long an alert waits for others of its kind.
GATHER_FOR: Final = timedelta(seconds=10)
# What happens again and again is told of no more often than this.
AT_MOST_EVERY: Final = timedelta(minutes=10)
# So many of a kind are told of one by one; more in one message.
MOST_SINGLE: Final = 3
# Five tries within half an hour.
_PAUSES_S: Final = (30, 120, 480, 1200)
MOST_TRIES: Final = len(_PAUSES_S) + 1
_MOST_LINES: Final = 20

# The plural of a kind; another one is told of by its name.
_TOGETHER: Final = {
    "shard.suspect": "shards fell silent",
    "shard.lost": "shards are lost",
    "shard.well": "shards are well again",
    "operation.failed": "operations failed",
    "enrolment.repeated": "enrolment tokens were used twice",
    "pool.not_scaled": "pools are not scaled",
    "provider.problems": "providers do not work as they should",
    "shard.not_recycled": "shards are not made anew",
}
_OF_SILENCE: Final = frozenset({"shard.suspect", "shard.lost"})


def next_pause_s(tries: int) -> float | None:
    """Seconds until the next try; None when there is none. ``tries``: that have been made, at least one."""
    return float(_PAUSES_S[tries - 1]) if tries <= len(_PAUSES_S) else None


def told(text: str, count: int, since: datetime) -> str:
    """The text of one alert: what was counted under it is said."""
    return text if count == 1 else f"{text}\nThis is the latest of {count} times since {since:%H:%M:%S} UTC."


def told_together(kind: str, texts: Sequence[str], shards: int) -> tuple[str, str]:
    """Subject and text of several alerts of a kind.

    Args:
        kind: of all.
        texts: of each.
        shards: how many there are in all that should be heard of.
    """
    count = len(texts)
    lines = [*texts[:_MOST_LINES], *([f"… and {count - _MOST_LINES} more."] if count > _MOST_LINES else [])]
    if kind in _OF_SILENCE and count * 2 > shards:
        common = (
            f"That is {count} of {shards} shards at once: rather than each of them, what they share has failed. They "
            "cannot reach the control plane, or the network between, or their host, is down."
        )
        lines = [common, *lines]
    return f"{count} {_TOGETHER.get(kind, f'times {kind}')}", "\n".join(lines)
