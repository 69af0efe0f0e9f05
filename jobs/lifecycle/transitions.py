"""The one place where a job ends: its secrets go with it, and whoever watches is told."""

from __future__ import annotations

import json
from typing import Any

import structlog

from jobs.callbacks.outbox import KINDS, announce
from jobs.dispatch.round import queries as queue
from jobs.dispatch.round import request_round
from jobs.models.job import Attempt, Job
from jobs.models.states import ALLOWED, AttemptState
from jobs.streaming.notify import announce_change
from myctobot.contract.jobs import JobStatus
from myctobot.lib.sql import one_row

log = structlog.get_logger(__name__)

# By hand: every job comes through here, and to compile this takes Django longer than PostgreSQL needs to do it.
_END = """
    UPDATE jobs_job SET status = %s, phase = '', hold = '', queue_deadline = NULL, waiting_code = '',
        waiting_reason = '', finished_at = statement_timestamp(), sealed = NULL, error_code = %s, error_message = %s,
        error_retryable = %s, result = %s, has_log = log_bytes > 0
    WHERE id = %s AND status = ANY(%s)
    RETURNING id
"""
# As ``_END`` does it, with the attempt. Whoever changes the state of an attempt holds its job's row: the present
# attempt of a running job runs.
_COMPLETE = """
    WITH job AS (
        UPDATE jobs_job SET status = 'completed', phase = '', hold = '', queue_deadline = NULL, waiting_code = '',
            waiting_reason = '', finished_at = statement_timestamp(), sealed = NULL, error_code = '',
            error_message = '', error_retryable = false, result = %s, has_log = log_bytes > 0
        WHERE id = %s AND status || '' = 'running' AND attempt_number = %s AND next_seq = %s
        RETURNING id
    ), attempt AS (
        UPDATE jobs_attempt SET state = 'ended', ended_at = statement_timestamp(), outcome = 'completed',
            error_code = '', error_message = '', proof = NULL, gateway_token_hash = NULL
        WHERE id = %s AND job_id = (SELECT id FROM job)
    )
    SELECT id FROM job
"""


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
    from_states = [state.value for state, targets in ALLOWED.items() if status in targets]
    values = [status, code, message, retryable, None if result is None else json.dumps(result), job.pk, from_states]
    ended = one_row(_END, values) is not None
    if ended:
        queue.release_key(job)
        if job.callback_url:
            announce(job.pk, KINDS[status])
        _tell_of_end(job, status, code)
    return ended


def ends_alone(job: Job, attempt: Attempt) -> bool:
    """Whether a running job can end without others being told in the same transaction."""
    return attempt.state == AttemptState.RUNNING and not job.concurrency_key and not job.callback_url


def complete_at_once(job: Job, attempt: Attempt, final_seq: int, result: dict[str, Any]) -> bool:
    """End a running job that ``ends_alone`` and its attempt as completed, by one statement.

    Args:
        job, attempt: as read just now.
        final_seq: the number of the attempt's last event.
        result: what came of it.

    Returns:
        False when it takes a closer look, and nothing was changed.
    """
    if one_row(_COMPLETE, [json.dumps(result), job.pk, attempt.number, final_seq + 1, attempt.pk]) is None:
        return False
    _tell_of_end(job, JobStatus.COMPLETED, "")
    return True


def _tell_of_end(job: Job, status: JobStatus, code: str) -> None:
    log.info("job.ended", job=job.public_id, status=status.value, error=code or None)
    announce_change(job.public_id)
    request_round()
