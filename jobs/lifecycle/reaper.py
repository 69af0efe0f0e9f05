"""Attempts and jobs that nobody will end, ended by the database's clock.

A message that nobody claimed is withdrawn, a runner that fell silent is lost, and what has waited, run or been
asked to stop for longer than it may is ended with a sentence that says what is known and what is not.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

import structlog
from django.db import transaction
from django.db.models import DurationField, F, Value
from django.db.models.functions import Now

from jobs.capacity.containment import stop_what_runs
from jobs.dispatch.round import burn
from jobs.dispatch.round import queries as queue
from jobs.lifecycle.failure import conclude_failure
from jobs.lifecycle.transitions import end_job
from jobs.models.job import Attempt, Job
from jobs.models.states import AttemptState
from jobs.queue.waiting import Waits
from myctobot.contract.jobs import CLAIM_DEADLINE_S, LEASE_S, LOST_AFTER_S, JobStatus
from myctobot.lib.clock import database_now

log = structlog.get_logger(__name__)


# Five minutes of attempts that nobody took: an outage is over by then, or somebody must look.
MAX_UNCLAIMED = 10
# A runner that was asked to stop and goes on renewing its lease has this long to prove that it did.
CANCEL_DEADLINE_S = 120
# A runner ends its attempt by ``timeout_s`` and reports for a quarter of an hour at most; twice that, and it is broken.
RUN_GRACE_S = 1800
# Of each kind at a time: the next look comes within a second.
_MOST = 200


def recover(listening_since: datetime | None = None) -> None:
    """End what nobody will end.

    Args:
        listening_since: when this process began to look. Within a full lease of it no attempt is declared lost:
            the control plane may have been away, and its runners had nobody to speak to.
    """
    sent = Attempt.objects.filter(state=AttemptState.SENT, sent_at__lt=Now() - timedelta(seconds=CLAIM_DEADLINE_S))
    for attempt in _some(sent):
        _withdraw(attempt)
    _end_overdue_waits()
    queue.release_free_keys()
    heard_for = timedelta.max if listening_since is None else database_now() - listening_since
    if heard_for < timedelta(seconds=LEASE_S):
        return
    running = Attempt.objects.filter(state=AttemptState.RUNNING)
    for attempt in _some(running.filter(lease_until__lt=Now() - timedelta(seconds=LOST_AFTER_S - LEASE_S))):
        _lose(attempt)
    stubborn = running.filter(job__cancel_requested_at__lt=Now() - timedelta(seconds=CANCEL_DEADLINE_S))
    for attempt in _some(stubborn) if heard_for >= timedelta(seconds=CANCEL_DEADLINE_S) else ():
        _end_unproven_cancel(attempt)
    a_second = Value(timedelta(seconds=1), output_field=DurationField())
    overdue = running.filter(claimed_at__lt=Now() - a_second * (F("job__timeout_s") + RUN_GRACE_S))
    for attempt in _some(overdue):
        # Time in which runners could not be heard is time in which they were frozen.
        if heard_for >= timedelta(seconds=attempt.job.timeout_s + RUN_GRACE_S):
            _end_overdue_run(attempt)


def _some(rows: Iterable[Attempt]) -> list[Attempt]:
    return list(rows.select_related("job", "shard").order_by("pk")[:_MOST])  # type: ignore[attr-defined]  # a QuerySet


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


def _give_up(job: Job, attempt: Attempt) -> None:
    message = (
        f"No shard claimed any of {MAX_UNCLAIMED} attempts, though shards report to be well: they cannot reach "
        "the broker or the shard API. See to the shards' logs, then retry the job."
    )
    if burn(attempt, AttemptState.WITHDRAWN, code="unclaimed", message=message):
        end_job(job, JobStatus.FAILED, code="unclaimed", message=message, retryable=True)


def _end_overdue_waits() -> None:
    overdue = Job.objects.filter(status=JobStatus.QUEUED, queue_deadline__lt=Now()).order_by("queue_deadline")
    waits = Waits()
    for pk in list(overdue.values_list("pk", flat=True)[:_MOST]):
        with transaction.atomic():
            # Claimed or cancelled since: then there is nothing to end.
            if job := overdue.select_for_update(of=("self",)).filter(pk=pk).first():
                _end_overdue_wait(job, waits)


def _end_overdue_wait(job: Job, waits: Waits) -> None:
    why = waits.of(job)
    message = f"No shard took the job within its queue_timeout_s of {job.queue_timeout_s}. {why.reason if why else ''}"
    for attempt in job.attempts.filter(state=AttemptState.SENT):
        burn(attempt, AttemptState.WITHDRAWN, code="queue_timeout", message="The job had waited for too long.")
    end_job(job, JobStatus.FAILED, code="queue_timeout", message=message.strip(), retryable=True)


@transaction.atomic
def _lose(attempt: Attempt) -> None:
    # The job's row is locked first, as every write of a runner does: no deadlock, and a finish that
    # came in just now wins.
    job = Job.objects.select_for_update().get(pk=attempt.job_id)
    if not Attempt.objects.filter(pk=attempt.pk, lease_until=attempt.lease_until).exists():
        return
    name = _shard_of(attempt)
    once = f"Attempt {attempt.number} on {name} was lost: nothing was heard of it for {LOST_AFTER_S} s."
    if not burn(attempt, AttemptState.LOST, code="lost", message=once):
        return
    log.warning("attempt.lost", job=job.public_id, attempt=attempt.number, shard=name)
    if job.cancel_requested_at is not None:
        _cancelled_unconfirmed(job, attempt, f"{name} fell silent and has not confirmed it")
    else:
        conclude_failure(job, code="lost", message=once, retryable=True)


@transaction.atomic
def _end_unproven_cancel(attempt: Attempt) -> None:
    job = Job.objects.select_for_update().get(pk=attempt.job_id)
    message = f"The cancel was not proven within {CANCEL_DEADLINE_S} s."
    if burn(attempt, AttemptState.LOST, code="cancel_unproven", message=message):
        log.warning("attempt.cancel_unproven", job=job.public_id, attempt=attempt.number, shard=_shard_of(attempt))
        _cancelled_unconfirmed(job, attempt, f"{_shard_of(attempt)} has not confirmed it within {CANCEL_DEADLINE_S} s")


def _cancelled_unconfirmed(job: Job, attempt: Attempt, what: str) -> None:
    done = stop_what_runs(attempt) or "See to the shard."
    message = (
        f"Cancelled, but {what}. Known: the attempt is fenced, so it can push nothing, spend nothing and report "
        f"nothing. Not known: whether its processes still run. {done}"
    )
    end_job(job, JobStatus.CANCELLED, code="cancelled_unconfirmed", message=message)


@transaction.atomic
def _end_overdue_run(attempt: Attempt) -> None:
    job = Job.objects.select_for_update().get(pk=attempt.job_id)
    message = (
        f"The job is past its timeout_s of {job.timeout_s} by half an hour, and {_shard_of(attempt)} has not ended it. "
        "The attempt is fenced; whether its processes still run is not known."
    )
    if burn(attempt, AttemptState.LOST, code="timeout", message=message):
        log.warning("attempt.overdue", job=job.public_id, attempt=attempt.number, shard=_shard_of(attempt))
        message = f"{message} {stop_what_runs(attempt) or 'See to the shard.'}"
        end_job(job, JobStatus.FAILED, code="timeout", message=message)


def _shard_of(attempt: Attempt) -> str:
    return attempt.shard.name if attempt.shard else "a removed shard"
