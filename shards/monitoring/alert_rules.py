"""Rules for alerts: grouping, repetition and retries; pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

# An alert waits this long for others of its kind, because failures with one cause appear within a heartbeat.
GATHER_FOR: Final = timedelta(seconds=10)
# A repeated alert is sent at most once in this time.
REPEAT_AFTER: Final = timedelta(minutes=10)
# More alerts of a kind than this are sent as one message.
MAX_SINGLE: Final = 3
# Pauses between five tries within half an hour.
_PAUSES_S: Final = (30, 120, 480, 1200)
MAX_TRIES: Final = len(_PAUSES_S) + 1
_MAX_LINES: Final = 20

# Text for several alerts of a kind; other kinds are named by their code.
_PLURALS: Final = {
    "shard.suspect": "shards fell silent",
    "shard.lost": "shards are lost",
    "shard.healthy": "shards are healthy again",
    "operation.failed": "operations failed",
    "enrolment.repeated": "enrolment tokens were used twice",
    "pool.not_scaled": "pools are not scaled",
    "provider.problems": "providers have problems",
    "shard.not_recycled": "shards are not re-created",
    "stack.part_failed": "processes do not start",
    "control.away": "outages of the control plane are over",
    "shard.broker_refused": "shards are refused by the broker",
    "beat.silent": "times without periodic tasks",
}
_SILENCE_KINDS: Final = frozenset({"shard.suspect", "shard.lost"})


def next_pause_s(tries: int) -> float | None:
    """Return the seconds until the next try, or None if there is none.

    Args:
        tries: number of tries so far, at least one.
    """
    return float(_PAUSES_S[tries - 1]) if tries <= len(_PAUSES_S) else None


def alert_text(text: str, count: int, since: datetime) -> str:
    """Return the text of an alert, with the number of repetitions."""
    return text if count == 1 else f"{text}\nThis is the latest of {count} occurrences since {since:%H:%M:%S} UTC."


def group_text(kind: str, texts: Sequence[str], shards: int) -> tuple[str, str]:
    """Return the subject and text of several alerts of a kind.

    Args:
        kind: kind of all of them.
        texts: text of each.
        shards: number of shards that should report.
    """
    count = len(texts)
    lines = [*texts[:_MAX_LINES], *([f"… and {count - _MAX_LINES} more."] if count > _MAX_LINES else [])]
    if kind in _SILENCE_KINDS and count * 2 > shards:
        common = (
            f"{count} of {shards} shards fell silent at once, so a common cause is likely: their network, their host, "
            "or their access to the control plane."
        )
        lines = [common, *lines]
    return f"{count} {_PLURALS.get(kind, f'times {kind}')}", "\n".join(lines)
