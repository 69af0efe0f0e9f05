"""Writer of all changes of a job: each is one compare-and-set that carries what belongs to the change."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final

import structlog

from jobs.callbacks.outbox import JobReport, request_delivery_after_commit, store_callback_sql
from jobs.dispatch.concurrency_keys import release_next_sql
from jobs.dispatch.wakeup import request_round_after_commit
from jobs.models import Attempt, Job
from jobs.models.states import AttemptState
from jobs.models.transition_table import END, REQUEST_CANCEL, REQUEUE, REQUEUE_WAITING, WITHDRAW, JobTransition
from jobs.streaming.notify import announce_change
from myctobot.contract.jobs import TERMINAL, JobStatus
from myctobot.lib.sql import fetch_one, without_index

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class JobChange:
    """One transition of a job with its values.

    Attributes:
        job: as it was read.
        values: for the placeholders of the transition.
        result: of a job that ends.
    """

    job: Job
    transition: JobTransition
    values: Mapping[str, Any] = field(default_factory=dict)
    result: Mapping[str, Any] | None = None

    @property
    def report(self) -> JobReport | None:
        """Callback that belongs to the change; None when the job has no address or only waits."""
        target = self.transition.target
        if not self.job.callback_url or target is None or target == JobStatus.QUEUED:
            return None
        code, message = self.values.get("code", ""), self.values.get("message", "")
        return JobReport(self.job, target, self.result, code, message)


@dataclass(frozen=True)
class Companion:
    """Parts that a caller adds to the statement of a change.

    Attributes:
        before: a common table expression that the condition reads.
        condition: compared before anything is written.
        after: a common table expression that writes what belongs to the change; it reads ``changed``.
        values: for the placeholders in them.
    """

    before: str = ""
    condition: str = "true"
    after: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)


_ALONE: Final = Companion()


@cache
def _compose(transition: JobTransition, parts: tuple[str, str, str], *, has_key: bool, has_callback: bool) -> str:
    before, condition, after = parts
    changed = f"""changed AS (
        UPDATE jobs_job SET {transition.assignments}
        WHERE id = %(job_pk)s AND {transition.condition(without_index)} AND {condition}
        RETURNING id, tenant_id, concurrency_key, started_at, finished_at
    )"""  # noqa: S608  # only our own constants
    tables = [before, changed, after]
    if has_key and transition.frees_slot:
        tenant, key = "(SELECT tenant_id FROM changed)", "(SELECT concurrency_key FROM changed)"
        # PostgreSQL changes a row once in a statement: the job itself may be one that waits for the key.
        released = release_next_sql(tenant, key, condition="AND id <> %(job_pk)s")
        tables.append(f"released AS ({released})")
    if has_callback and transition.target is not None:
        tables.append(f"callback AS ({store_callback_sql(transition.target)})")
    return f"WITH {', '.join(filter(None, tables))} SELECT id FROM changed"  # noqa: S608  # only our own constants


def change_sql(change: JobChange, companion: Companion = _ALONE) -> tuple[str, dict[str, Any]]:
    """Return the statement of a change with its values; it gives a row if the job changed."""
    report, parts = change.report, (companion.before, companion.condition, companion.after)
    statement = _compose(
        change.transition, parts, has_key=bool(change.job.concurrency_key), has_callback=report is not None
    )
    values = {**change.values, **companion.values, "job_pk": change.job.pk}
    return statement, values | report.values if report else values


def write_change(change: JobChange, companion: Companion = _ALONE) -> bool:
    """Change a job by compare-and-set, with all that belongs to the change.

    Returns:
        False when another writer changed the job first, which is normal; then nothing is written.
    """
    if fetch_one(*change_sql(change, companion)) is None:
        return False
    announce(change)
    return True


def announce(change: JobChange) -> None:
    """After commit, notify those whom a change concerns; call it once the change is written."""
    job, transition = change.job, change.transition
    if transition.target in TERMINAL:
        log.info("job.ended", job=job.public_id, status=transition.target, error=change.values.get("code") or None)
    elif transition.frees_slot:
        log.info("job.queued_again", job=job.public_id, why=change.values["code"], pause_s=change.values["pause_s"])
    if transition.target is not None:
        announce_change(job.public_id)
    if transition.frees_slot:
        request_round_after_commit()
    if change.report is not None:
        request_delivery_after_commit()


def end_change(
    job: Job,
    status: JobStatus,
    *,
    code: str = "",
    message: str = "",
    retryable: bool = False,
    result: dict[str, Any] | None = None,
) -> JobChange:
    """Return the change that ends a job.

    Args:
        job: as it was read.
        status: completed, failed or cancelled.
        code: of the error, empty when there is none.
        message: a sentence that says why, and what to do.
        retryable: whether another try may well succeed.
        result: of the job.
    """
    stored = None if result is None else json.dumps(result)
    values = {"code": code, "message": message, "retryable": retryable, "result": stored}
    return JobChange(job, END[status], values, result)


def requeue_change(job: Job, *, pause_s: float, code: str, reason: str) -> JobChange:
    """Return the change that puts a running job back into the queue, after a pause in seconds."""
    return JobChange(job, REQUEUE, {"pause_s": float(pause_s), "code": code, "reason": reason})


def end_job(job: Job, status: JobStatus, *, code: str, message: str, retryable: bool = False) -> bool:
    """End a live job whose row the caller has locked; see ``end_change``.

    Returns:
        False when it has ended already.
    """
    return write_change(end_change(job, status, code=code, message=message, retryable=retryable))


def requeue_waiting_job(job: Job, *, code: str, reason: str) -> bool:
    """Put a waiting job back into the queue, also one that is delayed, held for its key or dispatched."""
    requeued = write_change(JobChange(job, REQUEUE_WAITING, {"code": code, "reason": reason}))
    request_round_after_commit()
    return requeued


def request_cancel(job: Job) -> bool:
    """Store that the cancel of a live job is asked for."""
    return write_change(JobChange(job, REQUEST_CANCEL))


# The job goes back into the queue only if no runner had claimed the attempt.
_INVALIDATE = f"""
    WITH invalidated AS (
        UPDATE jobs_attempt SET state = %(state)s, ended_at = statement_timestamp(), error_code = %(code)s,
            error_message = %(reason)s, gateway_token_hash = NULL
        WHERE id = %(attempt_pk)s AND {without_index("state")} = %(was)s AND ended_at IS NULL
        RETURNING job_id, number
    ), job AS (
        UPDATE jobs_job SET {WITHDRAW.assignments}
        WHERE id = (SELECT job_id FROM invalidated) AND attempt_number = (SELECT number FROM invalidated)
            AND {WITHDRAW.condition(without_index)} AND %(was)s::text = '{AttemptState.SENT.value}'
    )
    SELECT job_id FROM invalidated
"""  # noqa: S608  # only our own constants


def invalidate_attempt(attempt: Attempt, state: str, *, code: str, message: str) -> bool:
    """End a live attempt that no runner will end; its number can never be used again.

    The caller has locked the job's row.

    Returns:
        False when another writer ended it first, which is normal.
    """
    values = {"attempt_pk": attempt.pk, "was": str(attempt.state), "state": str(state), "code": code, "reason": message}
    return fetch_one(_INVALIDATE, values) is not None
