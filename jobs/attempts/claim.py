"""Claim of an attempt: exactly one runner gets it."""

from __future__ import annotations

from typing import Any, Final

import structlog
from django.db import transaction

from jobs.attempts.claim_rows import MAY_TAKE_JOBS_SQL, Claim, count_running_sql, read_claim
from jobs.attempts.fencing import SecretlessAttempts
from jobs.dispatch.wakeup import request_round_after_commit
from jobs.errors import NotClaimable, UnknownWork
from jobs.lifecycle.transitions import Companion, JobChange, announce, change_sql, end_job, invalidate_attempt
from jobs.models import Job
from jobs.models.states import AttemptState
from jobs.models.transition_table import START
from myctobot.contract.jobs import JobStatus
from myctobot.contract.limits import LEASE_S
from myctobot.contract.runner import ClaimAnswer, ClaimRequest
from myctobot.lib.crypto import CannotUnseal, digest
from myctobot.lib.sql import fetch_one, run_pipeline, without_index
from myctobot.tenants.secrets import SecretNotAllowed, UnknownSecret
from shards.lifecycle.transitions import transition
from shards.models import ShardState

log = structlog.get_logger(__name__)

# A claim that loses this often against other writers is refused; the attempt's message comes again.
_MAX_TRIES: Final = 5


def claim_attempt(key_hash: str, job_id: str, request: ClaimRequest, known: SecretlessAttempts) -> ClaimAnswer:
    """Take an attempt for a shard and hand out the payload and one-time secrets.

    A repeated claim of the same runner gets the same answer.

    Args:
        key_hash: digest of the caller's shard key.
        job_id: public id of the job, which comes from a URL and may be any text.
        request: see the contract.
        known: attempts whose first write needs no read before it; this one is added.

    Raises:
        NotClaimable: the attempt is taken, withdrawn, cancelled or not for this shard, or the shard is full.
            Nothing ran.
    """
    for tries in range(_MAX_TRIES):
        claim = read_claim(key_hash, job_id, request)
        if claim is None:
            raise NotClaimable("This shard was not sent such an attempt.")
        if not claim.is_repeated and not claim.is_open:
            raise NotClaimable
        # The write compares the number of running jobs, so only a write that failed needs a count for its reason.
        reason = None if claim.is_repeated else claim.refusal or (claim.full_refusal() if tries else None)
        if reason is not None:
            if _withdraw(claim, code="refused", message=reason):
                raise NotClaimable(reason)
            continue
        try:
            answer = claim.answer()
        except (UnknownSecret, SecretNotAllowed, CannotUnseal, UnknownWork) as error:
            code = error.code if isinstance(error, SecretNotAllowed | UnknownWork) else "secret_unavailable"
            if _withdraw(claim, code=code, message=str(error), ends_job=True):
                raise NotClaimable("The job failed before it started.") from error
            continue
        if _renew(claim) if claim.is_repeated else _take(claim, answer):
            known.remember(claim.fenced_attempt())
            return answer
    raise NotClaimable


_LEASE: Final = "lease_until = statement_timestamp() + make_interval(secs => %(lease_s)s)"
# Two claims must not share the last slot. The count is a later statement: the locking one does not see rows committed
# during its wait.
_LOCK_SHARD: Final = "SELECT id FROM shards_shard WHERE id = %(shard_pk)s FOR NO KEY UPDATE"
_IS_FREE: Final = f"""
    attempt_number = %(number)s AND ({count_running_sql("%(shard_pk)s")}) < %(slots)s AND EXISTS (
        SELECT FROM shards_shard WHERE id = %(shard_pk)s AND key_hash = %(key_hash)s AND {MAY_TAKE_JOBS_SQL}
            AND NOT (is_used AND %(is_ephemeral)s)
    )
"""  # only our own constants
_TAKE_ATTEMPT: Final = f"""
    attempt AS (
        UPDATE jobs_attempt SET state = '{AttemptState.RUNNING.value}', shard_id = %(shard_pk)s,
            claim_hash = %(claim_hash)s, gateway_token_hash = %(token_hash)s, claimed_at = statement_timestamp(),
            {_LEASE}
        WHERE id = %(attempt_pk)s AND job_id = (SELECT id FROM changed)
    )
"""  # noqa: S608  # only our own constants
# Written once in the life of a shard: its pool may become an ephemeral one, and then the shard is not clean any more.
_MARK_USED: Final = f"""
    UPDATE shards_shard SET is_used = true WHERE id = %(shard_pk)s AND EXISTS (
        SELECT FROM jobs_attempt
        WHERE id = %(attempt_pk)s AND {without_index("state")} = '{AttemptState.RUNNING.value}'
            AND claim_hash = %(claim_hash)s
    )
"""  # noqa: S608  # only our own constants


def _values(claim: Claim) -> dict[str, Any]:
    return {
        "shard_pk": claim.shard.pk,
        "key_hash": claim.key_hash,
        "number": claim.attempt.number,
        "attempt_pk": claim.attempt.pk,
        "claim_hash": claim.claim_hash,
        "slots": claim.slots,
        "is_ephemeral": claim.is_ephemeral,
        "lease_s": LEASE_S,
    }


def _take(claim: Claim, answer: ClaimAnswer) -> bool:
    """Start the job by compare-and-set, with all that belongs to it; False when nothing is written.

    Claims of one shard wait for each other's locks, so the pipeline holds them for the time of one commit.
    """
    if not claim.is_ephemeral:
        return _start(claim, answer)
    with transaction.atomic():
        started = _start(claim, answer)
        if started:
            reason = f"took {claim.job.public_id}; it is re-created afterwards"
            transition(claim.shard, ShardState.DRAINING, reason=reason)
    return started


def _start(claim: Claim, answer: ClaimAnswer) -> bool:
    values = {**_values(claim), "token_hash": digest(answer["gateway"]["token"])}
    change = JobChange(claim.job, START)
    start = change_sql(change, Companion(condition=_IS_FREE, after=_TAKE_ATTEMPT, values=values))
    mark = [] if claim.shard.is_used else [(_MARK_USED, values)]
    _, started, *_ = run_pipeline((_LOCK_SHARD, values), start, *mark)
    if started is None:
        return False
    log.info("attempt.claimed", job=claim.job.public_id, attempt=claim.attempt.number, shard=claim.shard.name)
    announce(change)
    return True


_RENEW: Final = f"""
    WITH job AS (
        SELECT id FROM jobs_job WHERE id = %(job_pk)s AND attempt_number = %(number)s
            AND {without_index("status")} = '{JobStatus.RUNNING.value}' FOR NO KEY UPDATE
    )
    UPDATE jobs_attempt SET {_LEASE}
    WHERE id = %(attempt_pk)s AND job_id = (SELECT id FROM job)
        AND {without_index("state")} = '{AttemptState.RUNNING.value}' AND claim_hash = %(claim_hash)s
    RETURNING id
"""  # noqa: S608  # only our own constants


def _renew(claim: Claim) -> bool:
    """Renew the lease of a repeated claim; False when the attempt does not run any more."""
    return fetch_one(_RENEW, {**_values(claim), "job_pk": claim.job.pk}) is not None


@transaction.atomic
def _withdraw(claim: Claim, *, code: str, message: str, ends_job: bool = False) -> bool:
    """Withdraw an attempt that cannot run, and end its job if no other attempt could; False when it has changed.

    For a repeated claim this ends a running attempt whose first answer was lost.
    """
    job = Job.objects.select_for_update().get(pk=claim.job.pk)
    if not invalidate_attempt(claim.attempt, AttemptState.WITHDRAWN, code=code, message=message):
        return False
    if ends_job:
        end_job(job, JobStatus.FAILED, code=code, message=f"{message} Then retry the job.")
    else:
        request_round_after_commit()
    return True
