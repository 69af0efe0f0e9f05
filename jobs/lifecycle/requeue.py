"""Requeue by an operator: the present attempt becomes invalid, and its runner is fenced."""

from __future__ import annotations

from dataclasses import dataclass

import structlog
from django.db import transaction

from jobs.errors import JobFinished, UnknownJob
from jobs.lifecycle.transitions import invalidate_attempt, requeue_change, requeue_waiting_job, write_change
from jobs.models import Job
from jobs.models.states import LIVE_ATTEMPTS, AttemptState, Hold
from myctobot.contract.jobs import JobStatus
from myctobot.tenants.audit import record

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Requeued:
    """Result of a requeue.

    Attributes:
        invalidated: number of the attempt that no longer counts; None when there was none.
        was: state of the job before: running, dispatched, delayed, held for its key, or ready.
    """

    job_id: str
    invalidated: int | None
    was: str


@transaction.atomic
def requeue(job_id: str, *, by: str) -> Requeued:
    """Put a job that waits or runs back into the queue, at once.

    A running attempt becomes lost, so every later call of its runner is refused. The limit on attempts does not apply,
    because a person decides.

    Raises:
        UnknownJob: no job has that id.
        JobFinished: the job has ended, and its secrets are gone, so only a retry can start it again. Or its cancel is
            asked for, so no round would ever dispatch it.
    """
    job = Job.objects.select_for_update().filter(public_id=job_id.replace("\x00", "")).first()
    if job is None:
        raise UnknownJob(f"There is no job '{job_id[:60]}'.")
    if job.is_over:
        raise JobFinished(f"The job has {job.status} and its secrets are gone; retry it instead.")
    if job.cancel_requested_at is not None:
        raise JobFinished("The job's cancel is asked for and ends it within two minutes, proven or not; then retry it.")
    was = _previous_state(job)
    attempt = job.attempts.filter(state__in=LIVE_ATTEMPTS).first()
    message = f"Put back into the queue by {by}."
    if attempt is not None:
        state = AttemptState.LOST if attempt.state == AttemptState.RUNNING else AttemptState.WITHDRAWN
        invalidate_attempt(attempt, state, code="requeued", message=message)
    if job.status == JobStatus.RUNNING:
        write_change(requeue_change(job, pause_s=0, code="requeued", reason=message))
    else:
        requeue_waiting_job(job, code="requeued", reason=message)
    record(by, "job.requeued", f"job/{job.public_id}", {"was": was}, tenant=job.tenant)
    log.info("job.requeued", job=job.public_id, by=by, was=was)
    return Requeued(job.public_id, attempt.number if attempt else None, was)


def _previous_state(job: Job) -> str:
    if job.status == JobStatus.RUNNING:
        return "running"
    return {Hold.DISPATCHED: "dispatched", Hold.DELAYED: "delayed", Hold.CONCURRENCY: "held for its key"}.get(
        Hold(job.hold), "ready"
    )
