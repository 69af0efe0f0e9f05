"""An operator puts a job back into the line: its present attempt is burnt, and its runner fenced."""

from __future__ import annotations

from dataclasses import dataclass

import structlog
from django.db import transaction

from jobs.dispatch.round import burn, request_round
from jobs.errors import JobIsOver, UnknownJob
from jobs.lifecycle.failure import queue_again
from jobs.models.job import Job
from jobs.models.states import LIVE_ATTEMPTS, AttemptState, Hold
from myctobot.contract.jobs import JobStatus

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Requeued:
    """What was done.

    Attributes:
        burnt: number of the attempt that counts no longer; None when there was none.
        was: what the job was doing: running, dispatched, parked, behind a key, or in line.
    """

    job_id: str
    burnt: int | None
    was: str


@transaction.atomic
def requeue(job_id: str, *, by: str) -> Requeued:
    """Put a job that waits or runs back into the line, at once.

    A running attempt becomes lost by the operator's word: whatever its runner still does is refused. The number of
    attempts that the job may have is no bound here: a person decides.

    Raises:
        UnknownJob: there is none of that id.
        JobIsOver: it has ended; its secrets are gone, so only a retry can start it again. Or it is about to, because
            somebody cancelled it: no round would ever send it.
    """
    job = Job.objects.select_for_update().filter(public_id=job_id.replace("\x00", "")).first()
    if job is None:
        raise UnknownJob(f"There is no job '{job_id[:60]}'.")
    if job.is_over:
        raise JobIsOver(f"The job has {job.status} and its secrets are gone; retry it instead.")
    if job.cancel_requested_at is not None:
        raise JobIsOver("The job's cancel is asked for and ends it within two minutes, proven or not; then retry it.")
    was = _doing(job)
    attempt = job.attempts.filter(state__in=LIVE_ATTEMPTS).first()
    message = f"Put back into the line by {by}."
    if attempt is not None:
        lost = attempt.state == AttemptState.RUNNING
        burn(attempt, AttemptState.LOST if lost else AttemptState.WITHDRAWN, code="requeued", message=message)
    if job.status == JobStatus.RUNNING:
        queue_again(job, pause_s=0, code="requeued", reason=message)
    else:
        Job.objects.filter(pk=job.pk).update(hold=Hold.NONE, waiting_code="requeued", waiting_reason=message)
        request_round()
    log.info("job.requeued", job=job.public_id, by=by, was=was)
    return Requeued(job.public_id, attempt.number if attempt else None, was)


def _doing(job: Job) -> str:
    if job.status == JobStatus.RUNNING:
        return "running"
    return {Hold.SENT: "dispatched", Hold.TIME: "parked", Hold.KEY: "behind a key"}.get(Hold(job.hold), "in line")
