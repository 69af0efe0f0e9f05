"""Whether a stream has a gap; pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from myctobot.contract.jobs import TERMINAL, EventKind


class Gap(Exception):
    """What came does not follow what came before; nothing of it may be shown."""


def number_after(event: Mapping[str, Any], last: int) -> int | None:
    """Return the last number once ``event`` is added to what came before, or None when it came before already.

    Args:
        event: as it came.
        last: the last number so far; 0 for none.

    Raises:
        Gap: numbers are missing between, or it is no event.
    """
    seq = event.get("seq")
    if not isinstance(seq, int):
        raise Gap("an event without a number came")
    if seq <= last:
        return None
    if seq == last + 1:
        return seq
    # A mark stands for all numbers from its first to its own, and may begin within what is known already.
    if event.get("kind") == EventKind.DROPPED and _first_of(event) <= last + 1:
        return seq
    raise Gap(f"number {last + 1} was to come, and {seq} came")


def _first_of(mark: Mapping[str, Any]) -> int:
    try:
        return int(mark["data"]["first_seq"])
    except (KeyError, TypeError, ValueError) as error:
        raise Gap("a mark that does not say what it stands for came") from error


def check_end(event: Mapping[str, Any], last: int) -> str:
    """Check that an ``end`` event counts what came, and return the job's status.

    Raises:
        Gap: the count is another one, or it is no end.
    """
    try:
        count, status = event["data"]["count"], str(event["data"]["status"])
    except (KeyError, TypeError) as error:
        raise Gap("an end without its count or status came") from error
    if status not in TERMINAL:
        raise Gap(f"an end with the status {status} came")
    if count != last:
        raise Gap(f"the end counts {count} events, and {last} came")
    return status
