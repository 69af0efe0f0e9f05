"""Check of a stream's event numbers for gaps; pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from myctobot.contract.jobs import TERMINAL, EventKind


class SequenceGap(Exception):
    """Event does not follow the one before it, so it must not be shown."""


def number_after(event: Mapping[str, Any], last: int) -> int | None:
    """Return the last number after ``event`` is added, or None when the event was received before.

    Args:
        event: event as it was received.
        last: last number so far; 0 for none.

    Raises:
        SequenceGap: numbers are missing before the event, or it is not an event.
    """
    seq = event.get("seq")
    if not isinstance(seq, int):
        raise SequenceGap("an event has no number")
    if seq <= last:
        return None
    if seq == last + 1:
        return seq
    # A marker replaces all events from its first number to its own, and some of them may be known already.
    if event.get("kind") == EventKind.DROPPED and _first_of(event) <= last + 1:
        return seq
    raise SequenceGap(f"event {last + 1} is missing: event {seq} followed {last}")


def _first_of(marker: Mapping[str, Any]) -> int:
    try:
        return int(marker["data"]["first_seq"])
    except (KeyError, TypeError, ValueError) as error:
        raise SequenceGap("a marker does not name the events that it replaces") from error


def check_end(event: Mapping[str, Any], last: int) -> str:
    """Check that an ``end`` event has the right count, and return the job's status.

    Raises:
        SequenceGap: the count is different, or it is not an ``end`` event.
    """
    try:
        count, status = event["data"]["count"], str(event["data"]["status"])
    except (KeyError, TypeError) as error:
        raise SequenceGap("the end event has no count or no status") from error
    if status not in TERMINAL:
        raise SequenceGap(f"the end event has the status {status}")
    if count != last:
        raise SequenceGap(f"the end event counts {count} events, but {last} were received")
    return status
