"""Cancel of a job by a member."""

from __future__ import annotations

from django.db import transaction

from jobs import broker
from jobs.errors import JobFinished, UnknownJob
from jobs.lifecycle.lookup import jobs_called
from jobs.lifecycle.transitions import end_job, invalidate_attempt, request_cancel
from jobs.models import Job
from jobs.models.states import AttemptState
from myctobot.contract.jobs import JobStatus
from myctobot.tenants.audit import record
from myctobot.tenants.models import Tenant


def cancel(tenant: Tenant, public_id: str, *, by: str = "unknown") -> Job:
    """Cancel a job: at once if it waits, otherwise once its runner has proven that no process is left.

    A repeated cancel changes nothing.

    Args:
        tenant: owner of the job.
        public_id: id of the job.
        by: name of the caller for the audit log.

    Raises:
        UnknownJob: see ``find_job``.
        JobFinished: it has completed or failed.
    """
    with transaction.atomic():
        job = jobs_called(tenant, public_id).select_for_update().first()
        if job is None:
            raise UnknownJob
        if job.status in (JobStatus.COMPLETED, JobStatus.FAILED):
            raise JobFinished(f"The job has {job.status} already; there is nothing to cancel.")
        if not job.is_over and job.cancel_requested_at is None:
            record(by, "job.cancel_requested", f"job/{job.public_id}", {"status": job.status}, tenant=tenant)
        if job.status == JobStatus.QUEUED:
            _cancel_waiting(job)
        elif job.status == JobStatus.RUNNING and job.cancel_requested_at is None:
            request_cancel(job)
            transaction.on_commit(lambda: broker.notify_cancel(job.public_id), robust=True)
        job.refresh_from_db()
    return job


def _cancel_waiting(job: Job) -> None:
    for attempt in job.attempts.filter(state=AttemptState.SENT):
        invalidate_attempt(
            attempt, AttemptState.WITHDRAWN, code="cancelled", message="The job was cancelled before it started."
        )
    request_cancel(job)
    end_job(job, JobStatus.CANCELLED, code="cancelled", message="Cancelled before it started; nothing ran.")
