"""Failed attempt: the job is queued again after a pause, or it ends."""

from __future__ import annotations

from typing import Any

from django.conf import settings

from jobs.lifecycle.retry_policy import classify_failure, decide_retry, first_pause_s
from jobs.lifecycle.transitions import JobChange, end_change, requeue_change, write_change
from jobs.models import Job
from myctobot.contract.jobs import JobStatus


def failure_change(
    job: Job, *, code: str, message: str, retryable: bool, result: dict[str, Any] | None = None
) -> JobChange:
    """Decide what happens to a running job whose attempt failed.

    Args:
        job: as it was read; the rest of what the decision needs is read here.
        code, message: of the failure.
        retryable: whether the same may well succeed elsewhere or later.
        result: of the attempt, in spite of its failure.
    """
    job.refresh_from_db(fields=["capabilities", "max_attempts", "retry_on", "work"])
    decision = decide_retry(
        classify_failure(code, retryable=retryable),
        # Messages that no shard claimed use up a number without having run, so only real runs count.
        tries=job.attempts.exclude(claimed_at=None).count(),
        max_attempts=job.max_attempts,
        retry_on=job.retry_on,
        # The next attempt only pushes kept work, and that may be repeated.
        capabilities=job.capabilities if job.work_id is None else [],
        repeatable=settings.REPEATABLE_CAPABILITIES,
        first_pause_s=first_pause_s(code),
    )
    # A member who asked for the end wants no other try, and no sentence about one.
    is_cancelled = job.cancel_requested_at is not None
    text = f"{_sentence(message)} {decision.note}".lstrip() if decision.note and not is_cancelled else message
    if decision.retry and not is_cancelled:
        return requeue_change(job, pause_s=decision.pause_s, code="retry", reason=text)
    return end_change(job, JobStatus.FAILED, code=code, message=text, retryable=retryable, result=result)


def handle_attempt_failure(job: Job, *, code: str, message: str, retryable: bool) -> bool:
    """Queue a running job again or end it; its row is locked by the transaction that ended the attempt."""
    return write_change(failure_change(job, code=code, message=message, retryable=retryable))


def _sentence(message: str) -> str:
    """Return a shard's message with a period, because another sentence follows it."""
    text = message.rstrip()
    return text if not text or text.endswith((".", "!", "?")) else f"{text}."
