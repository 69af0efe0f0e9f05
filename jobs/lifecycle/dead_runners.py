"""Attempts whose runner is dead: silent, missing from its shard's reports, or reported as ended by its worker.

All three end in the same way: the attempt is lost, and its job runs again or ends.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from functools import partial
from typing import Final

import structlog
from django.db.models import F, QuerySet
from django.db.models.functions import Now

from jobs.capacity.containment import contain_attempt
from jobs.lifecycle.failure import handle_attempt_failure
from jobs.lifecycle.isolated_rows import run_isolated
from jobs.lifecycle.transitions import end_job, invalidate_attempt
from jobs.models import Attempt, Job
from jobs.models.states import AttemptState
from myctobot.contract.jobs import JobStatus
from myctobot.contract.limits import LEASE_S, LOST_AFTER_S
from myctobot.contract.names import parse_attempt_name
from myctobot.lib.sql import execute
from shards.models.timeouts import SILENT_AFTER

log = structlog.get_logger(__name__)

# A report that was made before the claim may arrive after it, as late as a worker waits for its answer.
_SETTLED_AFTER: Final = timedelta(seconds=15)
# Only attempts that begin or cease to be missing are written. The report of a silent shard says nothing.
_NOTE_MISSING: Final = f"""
    UPDATE jobs_attempt AS attempt SET missing_at = CASE WHEN seen.is_missing THEN seen.reported_at END
    FROM (
        SELECT own.id, shard.last_heartbeat_at AS reported_at,
            NOT shard.report -> 'running' ? (job.public_id || '.' || own.number) AS is_missing
        FROM jobs_attempt AS own
            JOIN jobs_job AS job ON job.id = own.job_id
            JOIN shards_shard AS shard ON shard.id = own.shard_id
        WHERE own.state = '{AttemptState.RUNNING.value}' AND jsonb_typeof(shard.report -> 'running') = 'array'
            AND shard.last_heartbeat_at > statement_timestamp() - %s
            AND shard.last_heartbeat_at > own.claimed_at + %s
    ) AS seen
    WHERE attempt.id = seen.id AND (attempt.missing_at IS NULL) = seen.is_missing
"""  # noqa: S608  # only our own constants


def silent_attempts() -> QuerySet[Attempt]:
    """Return the attempts whose runners have not called for so long that they are lost."""
    overdue = Now() - timedelta(seconds=LOST_AFTER_S - LEASE_S)
    return Attempt.objects.filter(state=AttemptState.RUNNING, lease_until__lt=overdue)


def lose_silent(attempt: Attempt) -> None:
    """Give up an attempt whose runner is silent."""
    _lose(attempt, f"its runner was silent for {LOST_AFTER_S} s", "fell silent and has not confirmed it")


def note_missing() -> None:
    """Record which running attempts the latest report of their shard does not name."""
    execute(_NOTE_MISSING, SILENT_AFTER, _SETTLED_AFTER)


def missing_attempts() -> QuerySet[Attempt]:
    """Return the attempts that two reports of their shard do not name, and whose runners have not called since."""
    return Attempt.objects.filter(
        state=AttemptState.RUNNING,
        shard__last_heartbeat_at__gt=F("missing_at"),
        lease_until__lte=F("missing_at") + timedelta(seconds=LEASE_S),
    )


def lose_missing(attempt: Attempt) -> None:
    """Give up an attempt that its shard does not run any more."""
    _lose(attempt, "its shard does not run it any more", "does not run it any more and has not confirmed it")


def lose_ended(key_hash: str, names: Iterable[str]) -> None:
    """Give up the attempts whose runners ended without a report.

    Args:
        key_hash: digest of the key of the shard whose worker found them dead; other shards' attempts stay.
        names: names of the attempts, which may be any texts.
    """
    for job_id, number in filter(None, map(parse_attempt_name, names)):
        run_isolated(job_id, partial(_lose_ended, key_hash, job_id, number))


def _lose_ended(key_hash: str, job_id: str, number: int) -> None:
    found = Attempt.objects.filter(job__public_id=job_id, number=number, shard__key_hash=key_hash)
    attempt = found.filter(state=AttemptState.RUNNING).select_related("job", "shard").first()
    if attempt is not None:
        _lose(attempt, "its runner ended without a report", "lost the runner, which has not confirmed it")


def _lose(attempt: Attempt, why: str, unconfirmed: str) -> None:
    # The job's row is locked first, as by every write of a runner: no deadlock, and a finish of this very moment wins.
    job = Job.objects.select_for_update().get(pk=attempt.job_id)
    if not Attempt.objects.filter(pk=attempt.pk, lease_until=attempt.lease_until).exists():
        return
    name = shard_of(attempt)
    message = f"Attempt {attempt.number} on {name} was lost: {why}."
    if not invalidate_attempt(attempt, AttemptState.LOST, code="lost", message=message):
        return
    log.warning("attempt.lost", job=job.public_id, attempt=attempt.number, shard=name, why=why)
    if job.cancel_requested_at is not None:
        end_unconfirmed(job, attempt, f"{name} {unconfirmed}")
    else:
        handle_attempt_failure(job, code="lost", message=message, retryable=True)


def end_unconfirmed(job: Job, attempt: Attempt, reason: str) -> None:
    """End a job whose cancel no runner has proven; the attempt has been invalidated."""
    done = contain_attempt(attempt) or "Check the shard."
    message = (
        f"Cancelled, but {reason}. Known: the attempt is fenced, so it can push nothing, spend nothing and report "
        f"nothing. Not known: whether its processes still run. {done}"
    )
    end_job(job, JobStatus.CANCELLED, code="cancelled_unconfirmed", message=message)


def shard_of(attempt: Attempt) -> str:
    """Return the name of the attempt's shard for a sentence."""
    return attempt.shard.name if attempt.shard else "a removed shard"
