"""Attempts that no runner will end: withdrawn when nobody claimed them, lost when their runner fell silent."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models.functions import Now

from jobs.contract import CLAIM_DEADLINE_S, LEASE_S, LOST_AFTER_S, JobStatus
from jobs.dispatch import burn
from jobs.ending import end_job
from jobs.models import Attempt, Job
from jobs.states import AttemptState
from myctobot.lib.clock import database_now

log = structlog.get_logger(__name__)


# Five minutes of attempts that nobody took: an outage is over by then, or somebody must look.
MAX_UNCLAIMED = 10


@dataclass(frozen=True)
class AfterLoss:
    """What becomes of a job whose attempt was lost."""

    again: bool
    message: str


def after_loss(
    *, capabilities: list[str], repeatable: frozenset[str], attempt: int, max_attempts: int, shard: str
) -> AfterLoss:
    """Decide whether a job whose runner fell silent is tried again; pure.

    Args:
        capabilities: that the job asked for.
        repeatable: those whose effects may happen twice without harm.
        attempt: the number that was lost.
        max_attempts: in all.
        shard: the name of the shard that had it.
    """
    once = f"Attempt {attempt} on {shard} was lost: nothing was heard of it for {LOST_AFTER_S} s."
    unsafe = sorted(set(capabilities) - repeatable)
    if unsafe:
        return AfterLoss(False, f"{once} It is not repeated by itself because of {', '.join(unsafe)}; retry it.")
    if attempt >= max_attempts:
        return AfterLoss(False, f"{once} It was the last of {max_attempts}; see to the shard, then retry the job.")
    return AfterLoss(True, f"{once} The job is tried again.")


def recover(listening_since: datetime | None = None) -> None:
    """Withdraw unclaimed attempts and declare silent ones lost, by the database's clock alone.

    Args:
        listening_since: when this process began to look. Within a full lease of it no attempt is declared lost:
            the control plane may have been away, and its runners had nobody to speak to.
    """
    unclaimed = Attempt.objects.filter(
        state=AttemptState.SENT, sent_at__lt=Now() - timedelta(seconds=CLAIM_DEADLINE_S)
    ).select_related("job")
    for attempt in unclaimed:
        _withdraw(attempt)
    if listening_since is not None and database_now() - listening_since < timedelta(seconds=LEASE_S):
        return
    silent = Attempt.objects.filter(
        state=AttemptState.RUNNING, lease_until__lt=Now() - timedelta(seconds=LOST_AFTER_S - LEASE_S)
    ).select_related("job", "shard")
    for attempt in silent:
        _lose(attempt)


@transaction.atomic
def _withdraw(attempt: Attempt) -> None:
    # The job's row is locked first, as everywhere: a cancel or a claim of this very moment wins or waits.
    job = Job.objects.select_for_update().get(pk=attempt.job_id)
    if job.attempts.filter(state=AttemptState.WITHDRAWN, error_code="unclaimed").count() + 1 >= MAX_UNCLAIMED:
        _give_up(job, attempt)
        return
    reason = f"No shard claimed attempt {attempt.number} within {CLAIM_DEADLINE_S} s; it is sent anew."
    if burn(attempt, AttemptState.WITHDRAWN, code="unclaimed", message=reason):
        log.warning("attempt.withdrawn", job=attempt.job.public_id, attempt=attempt.number, queue=attempt.queue)
        Job.objects.filter(pk=attempt.job_id, status=JobStatus.QUEUED, attempt_number=attempt.number).update(
            waiting_code="unclaimed", waiting_reason=reason
        )


def _give_up(job: Job, attempt: Attempt) -> None:
    message = (
        f"No shard claimed any of {MAX_UNCLAIMED} attempts, though shards report to be well: they cannot reach "
        "the broker or the shard API. See to the shards' logs, then retry the job."
    )
    if burn(attempt, AttemptState.WITHDRAWN, code="unclaimed", message=message):
        end_job(job, JobStatus.FAILED, code="unclaimed", message=message, retryable=True)


@transaction.atomic
def _lose(attempt: Attempt) -> None:
    # The job's row is locked first, as every write of a runner does: no deadlock, and a finish that
    # came in just now wins.
    job = Job.objects.select_for_update().get(pk=attempt.job_id)
    if not Attempt.objects.filter(pk=attempt.pk, lease_until=attempt.lease_until).exists():
        return
    name = attempt.shard.name if attempt.shard else "a removed shard"
    # Messages that nobody claimed burn a number without having run, so only real runs count.
    tries = job.attempts.exclude(claimed_at=None).count()
    verdict = after_loss(
        capabilities=job.capabilities,
        repeatable=frozenset(settings.REPEATABLE_CAPABILITIES),
        attempt=tries,
        max_attempts=job.max_attempts,
        shard=name,
    )
    if not burn(attempt, AttemptState.LOST, code="lost", message=verdict.message):
        return
    log.warning("attempt.lost", job=job.public_id, attempt=attempt.number, shard=name, again=verdict.again)
    if job.cancel_requested_at is not None:
        end_job(
            job,
            JobStatus.CANCELLED,
            code="cancelled_unconfirmed",
            message=f"Cancelled, but {name} has not confirmed it: see to the shard, what ran there may still run.",
        )
    elif verdict.again:
        Job.objects.filter(pk=job.pk, status=JobStatus.RUNNING).update(
            status=JobStatus.QUEUED, phase="", waiting_code="lost", waiting_reason=verdict.message
        )
    else:
        end_job(job, JobStatus.FAILED, code="lost", message=verdict.message, retryable=True)
