"""The one place where a job ends: its secrets go with it, and whoever watches is told."""

from __future__ import annotations

from typing import Any

import structlog
from django.db.models.functions import Now

from jobs import queue
from jobs.callbacks.announcing import KINDS, announce
from jobs.contract import JobStatus
from jobs.dispatch import request_round
from jobs.models import Job
from jobs.states import ALLOWED, Hold
from jobs.streaming.notify import announce_change

log = structlog.get_logger(__name__)


def end_job(
    job: Job,
    status: JobStatus,
    *,
    code: str = "",
    message: str = "",
    retryable: bool = False,
    result: dict[str, Any] | None = None,
) -> bool:
    """Move a live job to its end by compare-and-set; call it inside a transaction.

    Args:
        job: as read in this transaction.
        status: completed, failed or cancelled.
        code: of the error, empty when there is none.
        message: a sentence that says why, and what to do.
        retryable: whether another try may well succeed.
        result: what came of it.

    Returns:
        False when somebody else changed the job first, which is normal.
    """
    from_states = [state for state, targets in ALLOWED.items() if status in targets]
    ended = Job.objects.filter(pk=job.pk, status__in=from_states).update(
        status=status,
        phase="",
        hold=Hold.NONE,
        queue_deadline=None,
        waiting_code="",
        waiting_reason="",
        finished_at=Now(),
        sealed=None,
        error_code=code,
        error_message=message,
        error_retryable=retryable,
        result=result,
    )
    if ended:
        queue.release_key(job)
        if job.callback_url:
            announce(job.pk, KINDS[status])
        log.info("job.ended", job=job.public_id, status=status.value, error=code or None)
        announce_change(job.public_id)
        request_round()
    return bool(ended)
