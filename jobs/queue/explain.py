"""Everything known about one job, as plain values for operators."""

from __future__ import annotations

from typing import Any

from jobs.errors import UnknownJob
from jobs.models import Attempt, Job
from jobs.queue.waiting import WaitExplainer
from myctobot.contract.jobs import TERMINAL
from myctobot.lib.clock import database_now


def explain_job(job_id: str) -> dict[str, Any]:
    """Return the state of a job, why it waits, and its attempts.

    Raises:
        UnknownJob: no job has this id.
    """
    rows = Job.objects.select_related("tenant").prefetch_related("attempts__shard")
    job = rows.filter(public_id=job_id.replace("\x00", "")).first()
    if job is None:
        raise UnknownJob(f"There is no job '{job_id[:60]}'.")
    waiting = WaitExplainer().explain(job, estimate=True)
    now = database_now()
    return {
        "id": job.public_id,
        "tenant": job.tenant.slug,
        "status": job.status,
        "phase": job.phase,
        "waiting": waiting and {**vars(waiting)},
        "capabilities": job.capabilities,
        "concurrency_key": job.concurrency_key,
        "not_before": _time(job.not_before),
        "queue_deadline": _time(job.queue_deadline),
        "cancel_requested_at": _time(job.cancel_requested_at),
        "waited_s": None if job.status in TERMINAL else max(0, round((now - job.ready_at).total_seconds())),
        "error": {"code": job.error_code, "message": job.error_message} if job.error_code else None,
        "attempts": [_attempt(attempt, now) for attempt in job.attempts.all()],
    }


def _attempt(attempt: Attempt, now: Any) -> dict[str, Any]:
    left_s = (
        round((attempt.lease_until - now).total_seconds()) if attempt.lease_until and not attempt.ended_at else None
    )
    return {
        "number": attempt.number,
        "state": attempt.state,
        "queue": attempt.queue,
        "shard": attempt.shard.name if attempt.shard else None,
        "sent_at": _time(attempt.sent_at),
        "claimed_at": _time(attempt.claimed_at),
        "ended_at": _time(attempt.ended_at),
        "lease_left_s": left_s,
        "outcome": attempt.outcome,
        "error": f"{attempt.error_code}: {attempt.error_message}" if attempt.error_code else "",
    }


def _time(value: Any) -> str | None:
    return value.isoformat(timespec="seconds") if value else None
