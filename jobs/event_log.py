"""A job's events as text, one a line, and how they are read from PostgreSQL.

A line is ``{"seq":1,"at":"…","kind":"…","data":{…}}``, always in this order and in ASCII, so that number and kind can
be read without the rest. Any other character is escaped: several of them end a line for some readers of streams.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from jobs.contract import Event, EventKind
from jobs.models import EventBatch

_HEAD = re.compile(r'\{"seq":(\d+),"at":"(?:[^"\\]|\\.)*","kind":"([^"\\]*)"')
# Rows whose sizes are looked at to choose those of one page.
_ROWS = 500
PAGE_BYTES = 512 * 1024


def encode(event: Event) -> str:
    """Write an event as a line."""
    ordered = {"seq": event["seq"], "at": event["at"], "kind": event["kind"], "data": event["data"]}
    return json.dumps(ordered, separators=(",", ":"))


def head(line: str) -> tuple[int, str]:
    """Return an event's number and kind.

    Raises:
        ValueError: ``encode`` has not written this.
    """
    found = _HEAD.match(line)
    if found is None:
        raise ValueError(f"this is no line of an event log: {line[:80]!r}")
    return int(found[1]), found[2]


def dropped_mark(first_seq: int, last_seq: int, at: str, *, size: int, reason: str) -> Event:
    """Make the event that stands for those from ``first_seq`` to ``last_seq``, of ``size`` bytes, with the last number.

    Args:
        at: RFC 3339.
        reason: ``bound``, the log was too long, or ``retention``, it was old.
    """
    data = {"first_seq": first_seq, "events": last_seq - first_seq + 1, "bytes": size, "reason": reason}
    return Event(seq=last_seq, at=at, kind=EventKind.DROPPED.value, data=data)


@dataclass(frozen=True)
class Lines:
    """Consecutive events as text.

    Attributes:
        first_seq: a mark that stands for many numbers begins with the first of them.
        lines: at least one.
    """

    first_seq: int
    last_seq: int
    lines: tuple[str, ...]

    def after(self, seq: int) -> Lines:
        """Return what follows number ``seq``, which is below ``last_seq``; a mark is not divided."""
        if seq < self.first_seq:
            return self
        if len(self.lines) == self.last_seq - self.first_seq + 1:
            rest = self.lines[seq - self.first_seq + 1 :]
        else:
            rest = tuple(line for line in self.lines if head(line)[0] > seq)
        return Lines(seq + 1, self.last_seq, rest)


def read_page(job_pk: int, after: int, most_bytes: int = PAGE_BYTES) -> list[Lines]:
    """Return the batches with numbers above ``after``, oldest first: at least one if there is any, whatever its size.

    Args:
        job_pk: the job's internal key.
        after: the last number that the reader has; 0 for none.
        most_bytes: where the page ends, give or take a batch.
    """
    rows = EventBatch.objects.filter(job_id=job_pk, last_seq__gt=after).order_by("last_seq")
    last, total = 0, 0
    # Chosen by size before they are read: some rows hold one event, others a quarter of a megabyte.
    for last, size in rows.values_list("last_seq", "bytes")[:_ROWS]:  # noqa: B007  # used after the loop
        total += size
        if total >= most_bytes:
            break
    if not last:
        return []
    found = rows.filter(last_seq__lte=last).values_list("first_seq", "last_seq", "lines")
    return [Lines(first, end, tuple(text.split("\n"))).after(after) for first, end, text in found]


def read_lines(job_pk: int, after: int = 0) -> Iterator[str]:
    """Yield all events after number ``after`` as lines, page by page."""
    while page := read_page(job_pk, after):
        for batch in page:
            yield from batch.lines
        after = page[-1].last_seq


def read_events(job_pk: int, after: int, limit: int) -> list[dict[str, Any]]:
    """Return up to ``limit`` events with numbers above ``after``, oldest first.

    Args:
        job_pk: the job's internal key.
        after: the last number that the reader has; 0 for none.
        limit: at least 1.
    """
    found: list[dict[str, Any]] = []
    for line in read_lines(job_pk, after):
        found.append(json.loads(line))
        if len(found) == limit:
            break
    return found
