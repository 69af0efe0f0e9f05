"""Encoding of a job's events as lines of text; pure.

A line is ``{"seq":1,"at":"…","kind":"…","data":{…}}``, always in this order and in ASCII, so that number and kind can
be read without the rest. Any other character is escaped: several of them end a line for some readers of streams.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from myctobot.contract.jobs import Event, EventKind

_HEAD = re.compile(r'\{"seq":(\d+),"at":"(?:[^"\\]|\\.)*","kind":"([^"\\]*)"')


def encode(event: Event, data: str) -> str:
    """Return an event as a line; ``data`` is its data as JSON in ASCII."""
    return f'{{"seq":{event["seq"]},"at":{json.dumps(event["at"])},"kind":"{event["kind"]}","data":{data}}}'


def head(line: str) -> tuple[int, str]:
    """Return an event's number and kind.

    Raises:
        ValueError: ``encode`` did not write this line.
    """
    found = _HEAD.match(line)
    if found is None:
        raise ValueError(f"this is no line of an event log: {line[:80]!r}")
    return int(found[1]), found[2]


def dropped_marker(first_seq: int, last_seq: int, at: str, *, size: int, reason: str) -> str:
    """Return the event that replaces ``first_seq`` to ``last_seq``, of ``size`` bytes in all; it has the last number.

    Args:
        at: RFC 3339.
        reason: ``bound``, the log was too long, or ``retention``, it was old.
    """
    data = {"first_seq": first_seq, "events": last_seq - first_seq + 1, "bytes": size, "reason": reason}
    return encode(Event(seq=last_seq, at=at, kind=EventKind.DROPPED.value, data=data), json.dumps(data))


def page_of(lines: Sequence[str], after: int, last_seq: int, status: str) -> bytes:
    """Return a page of events as JSON; the lines are passed on as they are.

    Args:
        lines: consecutive events after number ``after``.
        last_seq: number of the job's last event.
        status: of the job.
    """
    last = head(lines[-1])[0] if lines else after
    rest = json.dumps({"next_after": last, "more": last < last_seq, "status": status}, separators=(",", ":"))
    return f'{{"events":[{",".join(lines)}],{rest[1:]}'.encode()


@dataclass(frozen=True)
class EventBlock:
    """Consecutive events as text.

    Attributes:
        first_seq: a marker that replaces many events begins with the first number of them.
        lines: at least one.
    """

    first_seq: int
    last_seq: int
    lines: tuple[str, ...]

    def after(self, seq: int) -> EventBlock:
        """Return what follows number ``seq``, which is below ``last_seq``; a marker is not divided."""
        if seq < self.first_seq:
            return self
        if len(self.lines) == self.last_seq - self.first_seq + 1:
            rest = self.lines[seq - self.first_seq + 1 :]
        else:
            rest = tuple(line for line in self.lines if head(line)[0] > seq)
        return EventBlock(seq + 1, self.last_seq, rest)
