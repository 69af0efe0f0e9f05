"""What becomes of a job whose attempt failed: it goes back into the line after a pause, or it ends."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import structlog
from django.conf import settings
from django.db.models.functions import Now

from jobs.dispatch.round import queries as queue
from jobs.dispatch.round import request_round
from jobs.lifecycle.retry_policy import cause_of, decide
from jobs.lifecycle.transitions import end_job
from jobs.models.job import Job
from jobs.models.states import Hold
from jobs.streaming.notify import announce_change
from myctobot.contract.jobs import JobStatus

log = structlog.get_logger(__name__)


def conclude_failure(
    job: Job, *, code: str, message: str, retryable: bool, result: dict[str, Any] | None = None
) -> None:
    """Try a running job again, or end it as failed; call it inside the transaction that ended its attempt.

    Args:
        job: locked by the caller.
        code, message: of the failure.
        retryable: whether the same may well succeed elsewhere or later.
        result: what came of it all the same.
    """
    job.refresh_from_db(fields=["capabilities", "max_attempts", "retry_on", "queue_timeout_s", "cancel_requested_at"])
    verdict = decide(
        cause_of(code, retryable=retryable),
        # Messages that nobody claimed burn a number without having run, so only real runs count.
        tries=job.attempts.exclude(claimed_at=None).count(),
        max_attempts=job.max_attempts,
        retry_on=job.retry_on,
        capabilities=job.capabilities,
        repeatable=settings.REPEATABLE_CAPABILITIES,
    )
    # Whoever asked for its end does not want another try, nor to read of one.
    note = verdict.note if job.cancel_requested_at is None else ""
    said = f"{_sentence(message)} {note}".lstrip() if note else message
    if verdict.again and job.cancel_requested_at is None:
        log.info("job.again", job=job.public_id, error=code, pause_s=verdict.pause_s)
        queue_again(job, pause_s=verdict.pause_s, code="retry", reason=said)
    else:
        end_job(job, JobStatus.FAILED, code=code, message=said, retryable=retryable, result=result)


def _sentence(message: str) -> str:
    """A shard's message does not always end like a sentence, and another one follows."""
    text = message.rstrip()
    return text if not text or text.endswith((".", "!", "?")) else f"{text}."


def queue_again(job: Job, *, pause_s: float, code: str, reason: str) -> None:
    """Put a running job into the line, after a pause."""
    pause = timedelta(seconds=pause_s)
    wait = None if job.queue_timeout_s is None else Now() + pause + timedelta(seconds=job.queue_timeout_s)
    moved = Job.objects.filter(pk=job.pk, status=JobStatus.RUNNING).update(
        status=JobStatus.QUEUED,
        phase="",
        hold=Hold.TIME if pause_s else Hold.NONE,
        ready_at=Now() + pause,
        queue_deadline=wait,
        waiting_code=code,
        waiting_reason=reason,
    )
    if moved:
        queue.release_key(job)
        announce_change(job.public_id)
        request_round()
