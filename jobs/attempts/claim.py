"""How a runner takes its attempt and how it ends it. Its events are in ``ingest``; every write is fenced."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from typing import Any, Final

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models.functions import Now

from jobs.attempts.fencing import cleaner_of, gateway_token, held, lease_answer, note_secrets
from jobs.callbacks.outbox import STARTED, announce
from jobs.dispatch.round import burn, request_round
from jobs.errors import Fenced, NotClaimable, OutOfOrder
from jobs.lifecycle.failure import conclude_failure
from jobs.lifecycle.secrets import RUNNER_SECRETS, job_secrets
from jobs.lifecycle.transitions import complete_at_once, end_job, ends_alone
from jobs.models.job import Attempt, Job
from jobs.models.states import AttemptState
from jobs.streaming.notify import announce_change
from myctobot.contract.jobs import (
    LEASE_S,
    ClaimAnswer,
    ClaimRequest,
    FinishRequest,
    JobStatus,
    LeaseAnswer,
    Outcome,
    class_queue,
    shard_queue,
)
from myctobot.lib.crypto import CannotUnseal, digest
from myctobot.lib.sql import Columns, at_once, one_row
from myctobot.tenants.secrets import UnknownSecret
from shards.health.rules import may_take_jobs
from shards.lifecycle.transitions import move
from shards.models.shard import PoolMode, Shard, ShardState

log = structlog.get_logger(__name__)


def claim(key_hash: str, job_id: str, request: ClaimRequest) -> ClaimAnswer:
    """Take an attempt for a shard and hand out the payload and one-time secrets.

    Args:
        key_hash: digest of the caller's shard key.
        job_id: public id of the job, which comes from a URL and may be any text.
        request: see the contract.

    Raises:
        NotClaimable: the attempt is taken, withdrawn, cancelled or not for this shard, or the shard is full.
            Nothing ran.
    """
    if (taken := _claim_at_once(key_hash, job_id, request)) is not None:
        return taken
    answer, refusal = _claim(key_hash, job_id, request)
    if refusal is not None:
        # Raised after commit: what the refusal changed (a withdrawn attempt, a failed job) must stay.
        raise refusal
    assert answer is not None  # noqa: S101  # _claim returns exactly one of the two
    return answer


_JOB: Final = Columns(
    Job,
    *("id", "public_id", "tenant_id", "status", "attempt_number", "next_seq", "capabilities", "timeout_s"),
    *("no_output_timeout_s", "max_turns", "sealed", "concurrency_key", "callback_url"),
)
_ATTEMPT: Final = Columns(Attempt, "id", "job_id", "number", "state", "queue", "claim_hash", "shard_id")
_SHARD: Final = Columns(
    Shard, *("id", "name", "capabilities", "is_active", "state", "max_concurrent_jobs", "is_spare", "is_used")
)
# The shard's row is the lock on its slots: two claims at once must not both take the last one. The "+ 0" hides an
# index, as in ``fencing``.
_CLAIMED = f"""
    SELECT {_JOB.of("job")}, {_ATTEMPT.of("attempt")}, {_SHARD.of("shard")},
        (SELECT name FROM shards_pool WHERE id = shard.pool_id),
        (SELECT mode FROM shards_pool WHERE id = shard.pool_id), shard.report -> 'slots',
        job.task::text, job.context::text
    FROM shards_shard AS shard, jobs_job AS job, jobs_attempt AS attempt
    WHERE shard.key_hash = %s AND job.public_id = %s AND attempt.job_id = job.id AND attempt.number + 0 = %s
"""  # noqa: S608  # only our own constants
_CLAIMED_LOCKED = f"{_CLAIMED} FOR NO KEY UPDATE OF shard, job, attempt"
_RUNNING = "SELECT count(*) FROM jobs_attempt WHERE shard_id = %s AND ended_at IS NULL"
_TAKE_ATTEMPT = """
    UPDATE jobs_attempt SET state = 'running', shard_id = %s, claim_hash = %s, gateway_token_hash = %s,
        claimed_at = statement_timestamp(), lease_until = statement_timestamp() + make_interval(secs => %s)
    WHERE id = %s
"""
_START_JOB = """
    UPDATE jobs_job SET status = 'running', phase = 'preparing', hold = '', queue_deadline = NULL, waiting_code = '',
        waiting_reason = '', started_at = COALESCE(started_at, statement_timestamp())
    WHERE id = %s
"""
_TAKE = f"WITH attempt AS ({_TAKE_ATTEMPT}) {_START_JOB}"
_LOCK_SHARD = "SELECT id FROM shards_shard WHERE id = %s FOR NO KEY UPDATE"
# Once in the life of a shard: what has run a job is not clean any more, should its pool become an ephemeral one.
_MARK_USED = """
    UPDATE shards_shard SET is_used = true
    WHERE id = %s AND EXISTS (SELECT FROM jobs_attempt WHERE id = %s AND state || '' = 'running')
"""
# Whoever changes the state of an attempt holds its job's row: a job that waits and was sent has an attempt that was.
# The states are those of ``may_take_jobs``.
_TAKE_IF_FREE = f"""
    WITH job AS (
        {_START_JOB} AND status || '' = 'queued' AND hold || '' = 'sent' AND attempt_number = %s AND ({_RUNNING}) < %s
            AND EXISTS (
                SELECT FROM shards_shard WHERE id = %s AND key_hash = %s AND is_active AND NOT is_spare
                    AND state IN ('ready', 'suspect', 'lost')
            )
        RETURNING id
    ), attempt AS ({_TAKE_ATTEMPT} AND job_id = (SELECT id FROM job))
    SELECT id FROM job
"""  # noqa: S608  # only our own constants


@dataclass(frozen=True)
class _Claim:
    """What a claim is decided by.

    Attributes:
        slots: of the shard.
        is_ephemeral: whether the shard is made anew after each job.
    """

    job: Job
    attempt: Attempt
    shard: Shard
    slots: int
    is_ephemeral: bool
    task: dict[str, Any]
    context: dict[str, Any]
    claim_token: str


def _read(key_hash: str, job_id: str, request: ClaimRequest, *, lock: bool) -> _Claim | None:
    """Find what is claimed; None when this shard was not sent such an attempt."""
    row = one_row(_CLAIMED_LOCKED if lock else _CLAIMED, [key_hash, job_id.replace("\x00", ""), request["attempt"]])
    if row is None:
        return None
    at = iter(row)
    job = _JOB.instance([*islice(at, len(_JOB))])
    attempt = _ATTEMPT.instance([*islice(at, len(_ATTEMPT))])
    shard = _SHARD.instance([*islice(at, len(_SHARD))])
    pool, mode, reported, task, context = at
    if attempt.queue not in (class_queue(shard.capabilities, pool), shard_queue(shard.name)):
        return None
    is_ephemeral = mode == PoolMode.EPHEMERAL
    most = 1 if is_ephemeral else shard.max_concurrent_jobs
    slots = most if reported is None else min(most, int(reported))
    words = (json.loads(task), json.loads(context), request["claim_token"])
    return _Claim(job, attempt, shard, slots, is_ephemeral, *words)


def _claim_at_once(key_hash: str, job_id: str, request: ClaimRequest) -> ClaimAnswer | None:
    """Take an attempt by a look and one write; None when it takes a closer look, and nothing was written.

    Claims of one shard wait for each other's locks, and here they are held for the time of a commit alone.
    """
    wanted = _read(key_hash, job_id, request, lock=False)
    # A callback is stored with what it tells of, and so is that the shard is drained.
    if wanted is None or wanted.job.callback_url or wanted.is_ephemeral or wanted.attempt.state != AttemptState.SENT:
        return None
    try:
        answer = _answer(wanted)
    except (UnknownSecret, CannotUnseal):
        return None
    job, attempt, shard = wanted.job, wanted.attempt, wanted.shard
    note_secrets(job)
    take = (shard.pk, digest(wanted.claim_token), digest(answer["gateway"]["token"]), LEASE_S, attempt.pk)
    start = (job.pk, attempt.number, shard.pk, wanted.slots, shard.pk, key_hash)
    mark = [] if shard.is_used else [(_MARK_USED, [shard.pk, attempt.pk])]
    _, taken, *_ = at_once((_LOCK_SHARD, [shard.pk]), (_TAKE_IF_FREE, [*start, *take]), *mark)
    if taken is None:
        return None
    _tell_of_claim(wanted)
    return answer


@transaction.atomic
def _claim(key_hash: str, job_id: str, request: ClaimRequest) -> tuple[ClaimAnswer | None, NotClaimable | None]:
    wanted = _read(key_hash, job_id, request, lock=True)
    if wanted is None:
        return None, NotClaimable("This shard was not sent such an attempt.")
    job, attempt, shard = wanted.job, wanted.attempt, wanted.shard
    claim_hash = digest(request["claim_token"])
    again = attempt.state == AttemptState.RUNNING and (attempt.claim_hash, attempt.shard_id) == (claim_hash, shard.pk)
    sent = attempt.state == AttemptState.SENT and job.status == JobStatus.QUEUED
    if not again and not (sent and job.attempt_number == attempt.number):
        return None, NotClaimable()
    if not again and (why := _why_full(wanted)):
        burn(attempt, AttemptState.WITHDRAWN, code="refused", message=why)
        request_round()
        return None, NotClaimable(why)
    try:
        answer = _answer(wanted)
    except (UnknownSecret, CannotUnseal) as error:
        # Of a repeated claim: removed since the first answer, which its runner did not get.
        burn(attempt, AttemptState.WITHDRAWN, code="secret_unavailable", message=str(error))
        end_job(job, JobStatus.FAILED, code="secret_unavailable", message=f"{error} Then retry the job.")
        return None, NotClaimable("The job failed before it started.")
    if again:
        Attempt.objects.filter(pk=attempt.pk).update(lease_until=Now() + timedelta(seconds=LEASE_S))
    else:
        _take(wanted, claim_hash, answer)
    return answer, None


def _why_full(wanted: _Claim) -> str | None:
    shard = wanted.shard
    if not may_take_jobs(is_active=shard.is_active, is_spare=shard.is_spare, state=shard.state):
        return f"Shard {shard.name} takes no new jobs."
    if wanted.is_ephemeral and shard.is_used:
        return f"Shard {shard.name} had a job; it takes the next one when it was made anew."
    # Not with the locks: what others took while this waited for them is seen by a later statement alone.
    (running,) = one_row(_RUNNING, [shard.pk]) or (0,)
    if running >= wanted.slots:
        return f"Shard {shard.name} runs {running} of {wanted.slots} jobs; it has no free slot."
    return None


def _take(wanted: _Claim, claim_hash: str, answer: ClaimAnswer) -> None:
    job, attempt, shard = wanted.job, wanted.attempt, wanted.shard
    token_hash = digest(answer["gateway"]["token"])
    note_secrets(job)
    one_row(_TAKE, [shard.pk, claim_hash, token_hash, LEASE_S, attempt.pk, job.pk])
    if not shard.is_used:
        one_row(_MARK_USED, [shard.pk, attempt.pk])
    if wanted.is_ephemeral:
        move(shard, ShardState.DRAINING, reason=f"took {job.public_id}; it is made anew afterwards")
    if job.callback_url:
        announce(job.pk, STARTED)
    _tell_of_claim(wanted)


def _tell_of_claim(wanted: _Claim) -> None:
    job, attempt, shard = wanted.job, wanted.attempt, wanted.shard
    log.info("attempt.claimed", job=job.public_id, attempt=attempt.number, shard=shard.name)
    announce_change(job.public_id)


def _answer(wanted: _Claim) -> ClaimAnswer:
    job, attempt, task = wanted.job, wanted.attempt, dict(wanted.task)
    if task.get("repo_url"):
        task.setdefault("branch", f"myctobot/{job.public_id}")
    if extra := wanted.context.get("additional_instructions"):
        task["additional_instructions"] = extra
    return ClaimAnswer(
        job_id=job.public_id,
        attempt=attempt.number,
        next_seq=job.next_seq,
        task=task,  # type: ignore[typeddict-item]  # the serializer that stored it gave it this shape
        capabilities=job.capabilities,
        timeout_s=job.timeout_s,
        no_output_timeout_s=job.no_output_timeout_s,
        max_turns=job.max_turns,
        secrets=job_secrets(job, *RUNNER_SECRETS),
        gateway={"url": settings.GATEWAY_URL, "token": gateway_token(job, attempt, wanted.claim_token)},
    )


_END_ATTEMPT = """
    UPDATE jobs_attempt SET state = 'ended', ended_at = statement_timestamp(), outcome = %s, error_code = %s,
        error_message = %s, proof = %s, gateway_token_hash = NULL
    WHERE id = %s
"""


def finish(key_hash: str, job_id: str, claim_token: str, request: FinishRequest) -> LeaseAnswer:
    """End the attempt and with it the job. Idempotent: a repeated finish gets the same answer.

    Raises:
        UnknownJob, Fenced: see ``held``; or the attempt does not run any more.
        OutOfOrder: events are missing; send them first.
    """
    if request["outcome"] == Outcome.COMPLETED and not request.get("proof"):
        job, attempt = held(key_hash, job_id, request["attempt"], claim_token)
        if ends_alone(job, attempt):
            result = cleaner_of(job, attempt, claim_token).clean(request["result"])
            if complete_at_once(job, attempt, request["final_seq"], result):
                return lease_answer(job.next_seq, job.cancel_requested_at)
    return _finish(key_hash, job_id, claim_token, request)


@transaction.atomic
def _finish(key_hash: str, job_id: str, claim_token: str, request: FinishRequest) -> LeaseAnswer:
    job, attempt = held(key_hash, job_id, request["attempt"], claim_token, lock=True)
    if attempt.state == AttemptState.ENDED:
        return lease_answer(job.next_seq, job.cancel_requested_at)
    if attempt.state != AttemptState.RUNNING or job.status != JobStatus.RUNNING:
        raise Fenced
    if request["final_seq"] != job.next_seq - 1:
        raise OutOfOrder(f"Event {job.next_seq} is expected before the end.", expected=job.next_seq)
    cleaner = cleaner_of(job, attempt, claim_token)
    outcome, error = _verdict(job, request)
    code, message = (error["code"], cleaner.text(error["message"])) if error else ("", "")
    proof = request.get("proof")
    shown = json.dumps(cleaner.clean(proof)) if proof else None
    one_row(_END_ATTEMPT, [outcome.value, code, message, shown, attempt.pk])
    result = cleaner.clean(request["result"])
    retryable = bool(error and error["retryable"])
    if outcome is Outcome.FAILED:
        conclude_failure(job, code=code, message=message, retryable=retryable, result=result)
    else:
        end_job(job, JobStatus(outcome.value), code=code, message=message, retryable=retryable, result=result)
    return lease_answer(job.next_seq, job.cancel_requested_at)


def _verdict(job: Job, request: FinishRequest) -> tuple[Outcome, Any]:
    """What the job's end is, given what the runner says: a cancel counts only when asked for and proven."""
    outcome, error, proof = Outcome(request["outcome"]), request.get("error"), request.get("proof")
    if outcome is not Outcome.CANCELLED:
        return outcome, error if outcome is Outcome.FAILED else None
    if job.cancel_requested_at is None:
        message = "The shard ended the job though nobody asked for it; retry it."
        return Outcome.FAILED, {"code": "interrupted", "message": message, "retryable": True}
    if proof is None or proof["processes_left"]:
        left = proof["processes_left"] if proof else "an unknown number of"
        message = f"The cancel is not proven: {left} processes of the job may still run on its shard."
        return Outcome.FAILED, {"code": "cancel_unproven", "message": message, "retryable": False}
    return outcome, {
        "code": "cancelled",
        "message": "Cancelled as asked for; nothing of the job runs any more.",
        "retryable": False,
    }
