"""Notifications to the processes that watch a job. They may be lost, because PostgreSQL holds the events."""

from __future__ import annotations

from typing import Any

from django.db import transaction

from jobs.events.encoding import EventBlock
from jobs.streaming.publisher import publisher

# A larger batch is announced by its numbers only, because Redis disconnects subscribers whose buffers grow too large.
MAX_INLINE_BYTES = 128 * 1024


def group_name(job_id: str) -> str:
    """Return the Channels group of a job's watchers."""
    return f"job.{job_id}"


def announce_events(job_id: str, lines: EventBlock) -> None:
    """Send a stored batch to the watchers of its job after commit."""
    message: dict[str, Any] = {"type": "job.events", "first_seq": lines.first_seq, "last_seq": lines.last_seq}
    size = sum(map(len, lines.lines))
    if size <= MAX_INLINE_BYTES:
        message["lines"] = "\n".join(lines.lines)
    transaction.on_commit(lambda: _publish(job_id, message, size if "lines" in message else 0), robust=True)


def announce_change(job_id: str) -> None:
    """Announce a change of the job's status or phase after commit."""
    transaction.on_commit(lambda: _publish(job_id, {"type": "job.changed"}, 0), robust=True)


def _publish(job_id: str, message: dict[str, Any], size: int) -> None:
    # The encrypted message contains the job's id, so that it cannot be replayed into the group of another job.
    publisher().publish(group_name(job_id), {"job": job_id, **message}, size + 200)
