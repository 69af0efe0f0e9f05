"""Reader of a job's stored events, page by page."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from jobs.events.encoding import EventBlock
from jobs.models import EventBatch

# Number of rows whose sizes are read to choose those of one page.
_ROWS = 500
PAGE_BYTES = 512 * 1024


def read_page(job_pk: int, after: int, max_bytes: int = PAGE_BYTES) -> list[EventBlock]:
    """Return the batches with numbers above ``after``, oldest first: at least one if there is any, of any size.

    Args:
        job_pk: the job's internal key.
        after: the last number that the reader has; 0 for none.
        max_bytes: size at which the page ends, plus at most one batch.
    """
    rows = EventBatch.objects.filter(job_id=job_pk, last_seq__gt=after).order_by("last_seq")
    last, total = 0, 0
    # Sizes are read first: some rows hold one event, others a quarter of a megabyte.
    for last, size in rows.values_list("last_seq", "bytes")[:_ROWS]:  # noqa: B007  # used after the loop
        total += size
        if total >= max_bytes:
            break
    if not last:
        return []
    found = rows.filter(last_seq__lte=last).values_list("first_seq", "last_seq", "lines")
    return [EventBlock(first, end, tuple(text.split("\n"))).after(after) for first, end, text in found]


def read_lines(job_pk: int, after: int = 0) -> Iterator[str]:
    """Yield all events after number ``after`` as lines, page by page."""
    while page := read_page(job_pk, after):
        for batch in page:
            yield from batch.lines
        after = page[-1].last_seq


def read_page_of_lines(job_pk: int, after: int, limit: int, max_bytes: int = PAGE_BYTES) -> list[str]:
    """Return events with numbers above ``after`` as lines, oldest first: at least one if there is any, of any size.

    Args:
        job_pk: the job's internal key.
        after: the last number that the reader has; 0 for none.
        limit: number of events at which the page ends; at least 1.
        max_bytes: size of all lines, each with one more byte, at which the page ends.
    """
    found: list[str] = []
    for line in read_lines(job_pk, after):
        # Lines are ASCII, so a character is a byte.
        max_bytes -= len(line) + 1
        if found and max_bytes < 0:
            break
        found.append(line)
        if len(found) == limit:
            break
    return found


def read_events(job_pk: int, after: int, limit: int) -> list[dict[str, Any]]:
    """Return up to ``limit`` parsed events with numbers above ``after``, oldest first. The size is not bounded.

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
