"""What operators ask: how the queues stand, and why one job is where it is; as plain values."""

from __future__ import annotations

from typing import Any

from django.db import connection

from jobs import broker
from jobs.dispatch.snapshot import load_snapshot
from jobs.errors import UnknownJob
from jobs.models.job import Attempt, Job
from jobs.queue.waiting import Waits
from myctobot.contract.jobs import TERMINAL
from myctobot.lib.clock import database_now

_WAITING = """
    SELECT lane, CASE WHEN hold = '' THEN 'ready' ELSE hold END, count(*),
        extract(epoch FROM statement_timestamp() - min(ready_at))::float8
    FROM jobs_job WHERE status = 'queued' GROUP BY 1, 2 ORDER BY 1, 2
"""


def queues() -> dict[str, Any]:
    """How each class of shards and each lane of waiting jobs stands."""
    snapshot = load_snapshot(database_now())
    depths = broker.depths([group.queue for group in snapshot.classes.values()])
    classes = [
        {
            "class": group.name,
            "queue": group.queue,
            "shards": len(group.shards),
            "well": group.well,
            "slots": group.slots,
            "running": group.running,
            "free": max(0, group.free),
            "messages": depths.get(group.queue),
            "not_well": {shard.name: shard.unhealthy for shard in group.shards if shard.unhealthy is not None},
        }
        for group in sorted(snapshot.classes.values(), key=lambda group: group.name)
    ]
    with connection.cursor() as cursor:
        cursor.execute(_WAITING)
        rows = cursor.fetchall()
    lanes = [
        {"capabilities": lane, "state": state, "jobs": jobs, "oldest_s": max(0, round(oldest_s))}
        for lane, state, jobs, oldest_s in rows
    ]
    return {"classes": classes, "waiting": lanes}


def why(job_id: str) -> dict[str, Any]:
    """All that is known of where a job is.

    Raises:
        UnknownJob: there is none of that id.
    """
    rows = Job.objects.select_related("tenant").prefetch_related("attempts__shard")
    job = rows.filter(public_id=job_id.replace("\x00", "")).first()
    if job is None:
        raise UnknownJob(f"There is no job '{job_id[:60]}'.")
    waiting = Waits().of(job, estimate=True)
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
