"""Reading a job's stored events."""

from __future__ import annotations

from typing import Any

from jobs.models import EventBatch


def read_events(job_pk: int, after: int, limit: int) -> list[dict[str, Any]]:
    """Return up to ``limit`` events with numbers above ``after``, oldest first.

    Args:
        job_pk: the job's internal key.
        after: the last number that the reader has; 0 for none.
        limit: at least 1.
    """
    batches = EventBatch.objects.filter(job_id=job_pk, last_seq__gt=after).order_by("first_seq")
    found: list[dict[str, Any]] = []
    # A batch may hold a single event, so this many batches hold at least as many events as are wanted.
    for batch in batches[:limit].iterator(chunk_size=20):
        found.extend(event for event in batch.events if event["seq"] > after)
        if len(found) >= limit:
            return found[:limit]
    return found
