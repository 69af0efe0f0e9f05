"""The life of a job and of an attempt, as one table each.

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
    """Where one sending of a job to a queue is."""

    SENT = "sent"  # in the broker, or lost there
    RUNNING = "running"  # claimed; its lease counts
    ENDED = "ended"  # its runner reported
    WITHDRAWN = "withdrawn"  # nobody claimed it in time, or the job was cancelled first; the number is burnt
    LOST = "lost"  # its runner fell silent; the number is burnt


class Hold(StrEnum):
    """Why a queued job is not among those that a dispatch round picks from."""

    NONE = ""  # it is
    SENT = "sent"  # an attempt of it is on its way to a slot
    TIME = "time"  # parked until ``ready_at``: its own ``not_before``, or the pause before another attempt
    KEY = "key"  # others with its concurrency key run; the next one's turn comes when one of them ends


LIVE_ATTEMPTS: Final = frozenset({AttemptState.SENT, AttemptState.RUNNING})

ALLOWED: Final[dict[JobStatus, frozenset[JobStatus]]] = {
    JobStatus.QUEUED: frozenset({JobStatus.RUNNING, JobStatus.CANCELLED, JobStatus.FAILED}),
    JobStatus.RUNNING: frozenset({JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED, JobStatus.QUEUED}),
    JobStatus.COMPLETED: frozenset(),
    JobStatus.FAILED: frozenset(),
    JobStatus.CANCELLED: frozenset(),
}
