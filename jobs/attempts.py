"""How a runner takes its attempt and how it ends it. Its events are in ``ingest``; every write is fenced."""

from __future__ import annotations

from typing import Any

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models.functions import Coalesce, Now

from jobs.callbacks.announcing import STARTED, announce
from jobs.conclusion import conclude_failure
from jobs.contract import (
    ClaimAnswer,
    ClaimRequest,
    FinishRequest,
    JobStatus,
    LeaseAnswer,
    Outcome,
    Phase,
)
from jobs.dispatch import burn, request_round
from jobs.ending import end_job
from jobs.errors import Fenced, NotClaimable, OutOfOrder
from jobs.fencing import cleaner_of, fenced, gateway_token, lease_answer, lease_end, locked_job
from jobs.models import Attempt, Job
from jobs.secrets import RUNNER_SECRETS, job_secrets
from jobs.states import AttemptState, Hold
from jobs.streaming.notify import announce_change
from myctobot.lib.crypto import CannotUnseal, digest
from myctobot.tenants.secrets import UnknownSecret
from shards.models import Shard, ShardState

log = structlog.get_logger(__name__)


def claim(shard: Shard, job_id: str, request: ClaimRequest) -> ClaimAnswer:
    """Take an attempt for a shard and hand out the payload and one-time secrets.

    Args:
        shard: the caller.
        job_id: public id of the job.
        request: see the contract.

    Raises:
        NotClaimable: the attempt is taken, withdrawn, cancelled or not for this shard, or the shard is full.
            Nothing ran.
    """
    answer, refusal = _claim(shard, job_id, request)
    if refusal is not None:
        # Raised after commit: what the refusal changed (a withdrawn attempt, a failed job) must stay.
        raise refusal
    assert answer is not None  # noqa: S101  # _claim returns exactly one of the two
    return answer


@transaction.atomic
def _claim(shard: Shard, job_id: str, request: ClaimRequest) -> tuple[ClaimAnswer | None, NotClaimable | None]:
    # The shard's row is the lock on its slots: two claims at once must not both take the last one.
    shard = Shard.objects.select_for_update(of=("self",)).select_related("pool").get(pk=shard.pk)
    job = locked_job(job_id)
    attempt = job.attempts.filter(number=request["attempt"]).first() if job else None
    if job is None or attempt is None or attempt.queue not in shard.queues:
        return None, NotClaimable("This shard was not sent such an attempt.")
    claim_hash = digest(request["claim_token"])
    mine = attempt.claim_hash == claim_hash and attempt.shard_id == shard.pk
    if attempt.state == AttemptState.RUNNING and mine:
        return _answer_again(job, attempt, request["claim_token"])
    if attempt.state != AttemptState.SENT or job.status != JobStatus.QUEUED or job.attempt_number != attempt.number:
        return None, NotClaimable()
    if why := _why_full(shard):
        burn(attempt, AttemptState.WITHDRAWN, code="refused", message=why)
        request_round()
        return None, NotClaimable(why)
    try:
        answer = _answer(job, attempt, request["claim_token"])
    except (UnknownSecret, CannotUnseal) as error:
        burn(attempt, AttemptState.WITHDRAWN, code="secret_unavailable", message=str(error))
        end_job(job, JobStatus.FAILED, code="secret_unavailable", message=f"{error} Then retry the job.")
        return None, NotClaimable("The job failed before it started.")
    _take(shard, job, attempt, claim_hash, answer)
    return answer, None


def _answer_again(job: Job, attempt: Attempt, claim_token: str) -> tuple[ClaimAnswer | None, NotClaimable | None]:
    try:
        answer = _answer(job, attempt, claim_token)
    except (UnknownSecret, CannotUnseal) as error:
        # Removed since the first answer, which the runner did not get: it has nothing to go on with.
        burn(attempt, AttemptState.WITHDRAWN, code="secret_unavailable", message=str(error))
        end_job(job, JobStatus.FAILED, code="secret_unavailable", message=f"{error} Then retry the job.")
        return None, NotClaimable("The job failed before it started.")
    Attempt.objects.filter(pk=attempt.pk).update(lease_until=lease_end())
    return answer, None


def _why_full(shard: Shard) -> str | None:
    if not shard.is_active or shard.state == ShardState.DRAINING:
        return f"Shard {shard.name} takes no new jobs."
    running = shard.attempts.filter(state=AttemptState.RUNNING).count()
    if running >= shard.usable_slots:
        return f"Shard {shard.name} runs {running} of {shard.usable_slots} jobs; it has no free slot."
    return None


def _take(shard: Shard, job: Job, attempt: Attempt, claim_hash: str, answer: ClaimAnswer) -> None:
    Attempt.objects.filter(pk=attempt.pk, state=AttemptState.SENT).update(
        state=AttemptState.RUNNING,
        shard=shard,
        claim_hash=claim_hash,
        gateway_token_hash=digest(answer["gateway"]["token"]),
        claimed_at=Now(),
        lease_until=lease_end(),
    )
    Job.objects.filter(pk=job.pk, status=JobStatus.QUEUED, attempt_number=attempt.number).update(
        status=JobStatus.RUNNING,
        phase=Phase.PREPARING,
        hold=Hold.NONE,
        queue_deadline=None,
        waiting_code="",
        waiting_reason="",
        started_at=Coalesce("started_at", Now()),
    )
    if job.callback_url:
        announce(job.pk, STARTED)
    log.info("attempt.claimed", job=job.public_id, attempt=attempt.number, shard=shard.name)
    announce_change(job.public_id)


def _answer(job: Job, attempt: Attempt, claim_token: str) -> ClaimAnswer:
    task = dict(job.task)
    if task.get("repo_url"):
        task.setdefault("branch", f"myctobot/{job.public_id}")
    if extra := job.context.get("additional_instructions"):
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
        gateway={"url": settings.GATEWAY_URL, "token": gateway_token(job, attempt, claim_token)},
    )


@transaction.atomic
def finish(shard: Shard, job_id: str, claim_token: str, request: FinishRequest) -> LeaseAnswer:
    """End the attempt and with it the job. Idempotent: a repeated finish gets the same answer.

    Raises:
        Fenced: the attempt is not the present one any more.
        OutOfOrder: events are missing; send them first.
    """
    job, attempt = fenced(shard, job_id, request["attempt"], claim_token)
    if attempt.state == AttemptState.ENDED:
        return lease_answer(job, job.next_seq)
    if attempt.state != AttemptState.RUNNING or job.status != JobStatus.RUNNING:
        raise Fenced
    if request["final_seq"] != job.next_seq - 1:
        raise OutOfOrder(f"Event {job.next_seq} is expected before the end.", expected=job.next_seq)
    cleaner = cleaner_of(job, attempt, claim_token)
    outcome, error = _verdict(job, request)
    code, message = (error["code"], cleaner.text(error["message"])) if error else ("", "")
    Attempt.objects.filter(pk=attempt.pk).update(
        state=AttemptState.ENDED,
        ended_at=Now(),
        outcome=outcome,
        error_code=code,
        error_message=message,
        proof=cleaner.clean(request.get("proof")),
        gateway_token_hash=None,
    )
    result = cleaner.clean(request["result"])
    retryable = bool(error and error["retryable"])
    if outcome is Outcome.FAILED:
        conclude_failure(job, code=code, message=message, retryable=retryable, result=result)
    else:
        end_job(job, JobStatus(outcome.value), code=code, message=message, retryable=retryable, result=result)
    return lease_answer(job, job.next_seq)


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
