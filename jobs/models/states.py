"""States of a job and of an attempt, and the allowed moves of a job; pure.

queued ──claim──▶ running ──finish──▶ completed | failed | cancelled
  │  ▲               │
  │  └──lost, tries──┤
  │      remain      └──lost, none remain──▶ failed
  └──cancel──▶ cancelled      (docs/jobs.md shows the same picture)

sent ──claim──▶ running ──finish──▶ ended
  └─────not claimed in time─────▶ withdrawn
                   └──silent──▶ lost
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from myctobot.contract.jobs import JobStatus


class AttemptState(StrEnum):
    """State of one attempt."""

    SENT = "sent"  # its message is in the broker, or was lost there
    RUNNING = "running"  # claimed; its lease counts
    ENDED = "ended"  # its runner reported the end
    WITHDRAWN = "withdrawn"  # not claimed in time, or the job was cancelled first; its number is invalid
    LOST = "lost"  # its runner fell silent; its number is invalid


class Hold(StrEnum):
    """Reason why a dispatch round does not pick a queued job."""

    NONE = ""  # a round may pick it
    DISPATCHED = "sent"  # it has an attempt that no shard has claimed yet
    DELAYED = "time"  # until ``ready_at``: its own ``not_before``, or the pause before another attempt
    CONCURRENCY = "key"  # until a place under its concurrency key is free


LIVE_ATTEMPTS: Final = frozenset({AttemptState.SENT, AttemptState.RUNNING})

ALLOWED: Final[dict[JobStatus, frozenset[JobStatus]]] = {
    JobStatus.QUEUED: frozenset({JobStatus.RUNNING, JobStatus.CANCELLED, JobStatus.FAILED}),
    JobStatus.RUNNING: frozenset({JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED, JobStatus.QUEUED}),
    JobStatus.COMPLETED: frozenset(),
    JobStatus.FAILED: frozenset(),
    JobStatus.CANCELLED: frozenset(),
}
