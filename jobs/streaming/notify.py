"""Tells the processes that watch a job what is new. A hint may be lost: the truth is in PostgreSQL."""

from __future__ import annotations

from typing import Any

from django.db import transaction

from jobs.events.encoding import Lines
from jobs.streaming.publisher import publisher

# A larger batch goes as its numbers alone: Redis cuts off subscribers whose buffers grow too large.
MOST_INLINE_BYTES = 128 * 1024


def group_name(job_id: str) -> str:
    """The Channels group of those that watch a job."""
    return f"job.{job_id}"


def announce_events(job_id: str, lines: Lines) -> None:
    """After commit, hand a stored batch to whoever watches the job."""
    message: dict[str, Any] = {"type": "job.events", "first_seq": lines.first_seq, "last_seq": lines.last_seq}
    size = sum(map(len, lines.lines))
    if size <= MOST_INLINE_BYTES:
        message["lines"] = "\n".join(lines.lines)
    transaction.on_commit(lambda: _publish(job_id, message, size if "lines" in message else 0), robust=True)


def announce_change(job_id: str) -> None:
    """After commit, say that the job's status or phase has changed."""
    transaction.on_commit(lambda: _publish(job_id, {"type": "job.changed"}, 0), robust=True)


def _publish(job_id: str, message: dict[str, Any], size: int) -> None:
    # The id stands inside, where it is sealed: what was overheard in one group must not be played into another.
    publisher().publish(group_name(job_id), {"job": job_id, **message}, size + 200)
