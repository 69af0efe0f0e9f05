"""A callback is made in the transaction of what it tells of, so that neither is without the other."""

from __future__ import annotations

import json
from typing import Any, Final

from django.conf import settings
from django.db import transaction

from jobs import broker
from jobs.callbacks.models import Callback
from jobs.models.job import Job
from myctobot.contract.jobs import JobStatus

STARTED: Final = "job.started"
KINDS: Final = {
    JobStatus.COMPLETED: "job.completed",
    JobStatus.FAILED: "job.failed",
    JobStatus.CANCELLED: "job.cancelled",
}
_MOST_TEXT = 2000


def announce(job_pk: int, kind: str) -> None:
    """Make the callback of a kind for a job that has an address; once, however often it is called.

    Args:
        job_pk: of a job that the present transaction has locked.
        kind: ``job.started``, or of ``KINDS``.
    """
    job = Job.objects.get(pk=job_pk)
    if not job.callback_url:
        return
    body = json.dumps({"type": kind, "timestamp": _moment(job, kind), "data": _data(job)}, separators=(",", ":"))
    Callback.objects.get_or_create(job=job, kind=kind, defaults={"body": body})
    transaction.on_commit(broker.request_delivery, robust=True)


def _moment(job: Job, kind: str) -> str | None:
    at = job.started_at if kind == STARTED else job.finished_at
    return at.isoformat() if at else None


def _data(job: Job) -> dict[str, Any]:
    result = job.result or {}
    return {
        "id": job.public_id,
        "status": job.status,
        "attempt": job.attempt_number,
        "url": f"{settings.CONTROL_URL}/api/v1/jobs/{job.public_id}",
        "branch": result.get("branch"),
        "head": result.get("head"),
        "summary": str(result.get("summary") or "")[:_MOST_TEXT],
        "error": {"code": job.error_code, "message": job.error_message[:_MOST_TEXT]} if job.error_code else None,
    }
