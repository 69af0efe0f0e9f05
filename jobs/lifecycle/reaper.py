"""Reaper of attempts and jobs that nothing else ends, by the database's clock.

An attempt that no shard claims is withdrawn, and one whose runner is silent or missing on its shard is lost. A job that
has waited, run or been asked to stop for longer than it may is ended, with a sentence that says what is known and what
is not.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial

import structlog
from django.db.models import DurationField, F, QuerySet, Value
from django.db.models.functions import Now

from jobs.capacity.containment import contain_attempt
from jobs.dispatch import concurrency_keys
from jobs.lifecycle.dead_runners import (
    end_unconfirmed,
    lose_missing,
    lose_silent,
    missing_attempts,
    note_missing,
    shard_of,
    silent_attempts,
)
from jobs.lifecycle.isolated_rows import run_isolated
from jobs.lifecycle.transitions import end_job, invalidate_attempt
from jobs.models import Attempt, Job
from jobs.models.states import AttemptState
from jobs.queue.waiting import WaitExplainer
from myctobot.contract.jobs import JobStatus
from myctobot.contract.limits import CLAIM_DEADLINE_S, LEASE_S
from myctobot.lib.clock import database_now

log = structlog.get_logger(__name__)

# Five minutes of attempts that no shard claimed. An outage is over by then, or an operator must repair something.
MAX_UNCLAIMED = 10
# A runner that was asked to stop and goes on renewing its lease has this long to prove that it stopped.
CANCEL_DEADLINE_S = 120
# A runner ends its attempt by ``timeout_s`` and reports for at most a quarter of an hour. After twice that, it is
# broken.
RUN_GRACE_S = 1800
# Rows of each kind in one pass; the next pass comes within a second.
_MAX_PER_PASS = 200


def recover(reachable_since: datetime | None = None) -> None:
    """End what nothing else ends. A row whose step raises is logged and left; the rows after it are handled.

    Args:
        reachable_since: when runners could reach the control plane again. Within a full lease of it no attempt is
            declared lost: their runners may have had no control plane to report to. None means always.
    """
    sent = Attempt.objects.filter(state=AttemptState.SENT, sent_at__lt=Now() - timedelta(seconds=CLAIM_DEADLINE_S))
    _each_attempt(sent, _withdraw)
    _end_overdue_waits()
    concurrency_keys.release_free_keys()
    # Reports that arrived prove that the control plane can be reached.
    note_missing()
    _each_attempt(missing_attempts(), lose_missing)
    reachable_for = timedelta.max if reachable_since is None else database_now() - reachable_since
    if reachable_for < timedelta(seconds=LEASE_S):
        return
    running = Attempt.objects.filter(state=AttemptState.RUNNING)
    _each_attempt(silent_attempts(), lose_silent)
    if reachable_for >= timedelta(seconds=CANCEL_DEADLINE_S):
        overdue_cancels = running.filter(job__cancel_requested_at__lt=Now() - timedelta(seconds=CANCEL_DEADLINE_S))
        _each_attempt(overdue_cancels, _end_unproven_cancel)
    second = Value(timedelta(seconds=1), output_field=DurationField())
    overdue_runs = running.filter(claimed_at__lt=Now() - second * (F("job__timeout_s") + RUN_GRACE_S))
    _each_attempt(overdue_runs, partial(_end_overdue_run, reachable_for=reachable_for))


def _each_attempt(rows: QuerySet[Attempt], step: Callable[[Attempt], None]) -> None:
    # There is rarely any row. Without columns, Django builds the query in a tenth of the time.
    if not rows.exists():
        return
    for attempt in rows.select_related("job", "shard").order_by("pk")[:_MAX_PER_PASS]:
        run_isolated(attempt.job.public_id, partial(step, attempt))


def _withdraw(attempt: Attempt) -> None:
    # The job's row is locked first, as everywhere: a cancel or a claim of this very moment wins or waits.
    job = Job.objects.select_for_update().get(pk=attempt.job_id)
    if job.attempts.filter(state=AttemptState.WITHDRAWN, error_code="unclaimed").count() + 1 >= MAX_UNCLAIMED:
        _give_up(job, attempt)
        return
    reason = f"No shard claimed attempt {attempt.number} within {CLAIM_DEADLINE_S} s; the job is dispatched again."
    if invalidate_attempt(attempt, AttemptState.WITHDRAWN, code="unclaimed", message=reason):
        log.warning("attempt.withdrawn", job=attempt.job.public_id, attempt=attempt.number, queue=attempt.queue)


def _give_up(job: Job, attempt: Attempt) -> None:
    message = (
        f"No shard claimed any of {MAX_UNCLAIMED} attempts, although shards report to be healthy: they cannot reach "
        "the broker or the shard API. Read the shards' logs, then retry the job."
    )
    if invalidate_attempt(attempt, AttemptState.WITHDRAWN, code="unclaimed", message=message):
        end_job(job, JobStatus.FAILED, code="unclaimed", message=message, retryable=True)


def _end_overdue_waits() -> None:
    overdue = Job.objects.filter(status=JobStatus.QUEUED, queue_deadline__lt=Now()).order_by("queue_deadline")
    waits = WaitExplainer()

    def end(pk: int) -> None:
        # A claim or a cancel may have come since the list was read.
        if job := overdue.select_for_update(of=("self",)).filter(pk=pk).first():
            _end_overdue_wait(job, waits)

    for pk, job_id in list(overdue.values_list("pk", "public_id")[:_MAX_PER_PASS]):
        run_isolated(job_id, partial(end, pk))


def _end_overdue_wait(job: Job, waits: WaitExplainer) -> None:
    why = waits.explain(job)
    message = f"No shard took the job within its queue_timeout_s of {job.queue_timeout_s}. {why.reason if why else ''}"
    for attempt in job.attempts.filter(state=AttemptState.SENT):
        invalidate_attempt(
            attempt, AttemptState.WITHDRAWN, code="queue_timeout", message="The job waited for too long."
        )
    end_job(job, JobStatus.FAILED, code="queue_timeout", message=message.strip(), retryable=True)


def _end_unproven_cancel(attempt: Attempt) -> None:
    job = Job.objects.select_for_update().get(pk=attempt.job_id)
    message = f"The cancel was not proven within {CANCEL_DEADLINE_S} s."
    if invalidate_attempt(attempt, AttemptState.LOST, code="cancel_unproven", message=message):
        log.warning("attempt.cancel_unproven", job=job.public_id, attempt=attempt.number, shard=shard_of(attempt))
        end_unconfirmed(job, attempt, f"{shard_of(attempt)} has not confirmed it within {CANCEL_DEADLINE_S} s")


def _end_overdue_run(attempt: Attempt, *, reachable_for: timedelta) -> None:
    # While runners could not reach the control plane, they were frozen, and that time does not count.
    if reachable_for < timedelta(seconds=attempt.job.timeout_s + RUN_GRACE_S):
        return
    job = Job.objects.select_for_update().get(pk=attempt.job_id)
    message = (
        f"The job is past its timeout_s of {job.timeout_s} by half an hour, and {shard_of(attempt)} has not ended it. "
        "The attempt is fenced; whether its processes still run is not known."
    )
    if invalidate_attempt(attempt, AttemptState.LOST, code="timeout", message=message):
        log.warning("attempt.overdue", job=job.public_id, attempt=attempt.number, shard=shard_of(attempt))
        message = f"{message} {contain_attempt(attempt) or 'Check the shard.'}"
        end_job(job, JobStatus.FAILED, code="timeout", message=message)
