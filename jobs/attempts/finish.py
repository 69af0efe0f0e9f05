"""End of an attempt, as its runner reports it."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any, Final

from jobs.attempts.fencing import FENCE_SQL, IS_FENCED_SQL, FencedAttempt, SecretlessAttempts
from jobs.errors import Fenced, OutOfOrder
from jobs.lifecycle.failure import failure_change
from jobs.lifecycle.transitions import Companion, JobChange, end_change, write_change
from jobs.models import Job
from jobs.models.states import AttemptState
from myctobot.contract.jobs import JobStatus, Outcome
from myctobot.contract.runner import FinishError, FinishRequest, LeaseAnswer

# Only a cancel, an operator and the reaper write to the job at the same time, each of them once.
_MAX_TRIES: Final = 5
_END_ATTEMPT: Final = f"""
    attempt AS (
        UPDATE jobs_attempt SET state = '{AttemptState.ENDED.value}', ended_at = statement_timestamp(),
            outcome = %(outcome)s, error_code = %(attempt_code)s, error_message = %(attempt_message)s,
            proof = %(proof)s, gateway_token_hash = NULL
        WHERE id = (SELECT attempt_id FROM own) AND job_id = (SELECT id FROM changed)
    )
"""  # noqa: S608  # only our own constants
# The answer tells about a cancel, and some outcomes depend on it.
_IS_AS_READ: Final = f"{IS_FENCED_SQL} AND cancel_requested_at IS NOT DISTINCT FROM %(cancel_requested_at)s"


def finish_attempt(
    key_hash: str, job_id: str, claim_token: str, request: FinishRequest, known: SecretlessAttempts
) -> LeaseAnswer:
    """End the attempt and with it the job, or queue the job again. Idempotent: a repeated call gets the same answer.

    Args:
        key_hash: digest of the caller's shard key.
        job_id: public id of the job, which comes from a URL and may be any text.
        claim_token: secret of the calling runner.
        request: see the contract.
        known: attempts whose completion needs no read before it.

    Raises:
        UnknownJob, Fenced: see ``load_fenced_attempt``; or the attempt does not run any more.
        OutOfOrder: events are missing; send them first.
    """
    caller = (key_hash, job_id, request["attempt"], claim_token)
    assumed = known.assume(*caller, request["final_seq"] + 1) if request["outcome"] == Outcome.COMPLETED else None
    if assumed is not None and _end(assumed, request, cancel_requested_at=None):
        return assumed.lease_answer(assumed.next_seq, None)
    for _ in range(_MAX_TRIES):
        fenced = known.load(*caller)
        job, expected = fenced.job, fenced.next_seq
        if fenced.attempt.state != AttemptState.ENDED:
            if not fenced.is_running:
                raise Fenced
            if request["final_seq"] != expected - 1:
                raise OutOfOrder(f"Event {expected} is expected before the end.", expected=expected)
            # A cancel, the reaper or the runner's own repeat may win between the read and this write.
            if not _end(fenced, request, job.cancel_requested_at):
                continue
        return fenced.lease_answer(expected, job.cancel_requested_at)
    raise Fenced


def _end(fenced: FencedAttempt, request: FinishRequest, cancel_requested_at: datetime | None) -> bool:
    """End the job by compare-and-set, with all that belongs to it; False when nothing is written."""
    job, redactor = fenced.job, fenced.redactor
    outcome, error = _final_outcome(job, request)
    code, message = (error["code"], redactor.redact_text(error["message"])) if error else ("", "")
    proof, result = request.get("proof"), redactor.redact(request["result"])
    values = {
        **fenced.values,
        "outcome": outcome.value,
        "attempt_code": code,
        "attempt_message": message,
        "proof": json.dumps(redactor.redact(proof)) if proof else None,
        "cancel_requested_at": cancel_requested_at,
    }
    change = _change(job, outcome, error, message, result)
    return write_change(change, Companion(FENCE_SQL, _IS_AS_READ, _END_ATTEMPT, values))


def _change(job: Job, outcome: Outcome, error: FinishError | None, message: str, result: dict[str, Any]) -> JobChange:
    code, retryable = (error["code"], error["retryable"]) if error else ("", False)
    if outcome is Outcome.FAILED:
        return failure_change(job, code=code, message=message, retryable=retryable, result=result)
    return end_change(job, JobStatus(outcome.value), code=code, message=message, retryable=retryable, result=result)


def _final_outcome(job: Job, request: FinishRequest) -> tuple[Outcome, FinishError | None]:
    """Return the outcome that counts: a cancel counts only if it was asked for and is proven."""
    outcome, error, proof = Outcome(request["outcome"]), request.get("error"), request.get("proof")
    if outcome is not Outcome.CANCELLED:
        return outcome, error if outcome is Outcome.FAILED else None
    if job.cancel_requested_at is None:
        message = "The shard ended the job although its cancel was not asked for; retry it."
        return Outcome.FAILED, FinishError(code="interrupted", message=message, retryable=True)
    if proof is None or proof["processes_left"]:
        left = proof["processes_left"] if proof else "an unknown number of"
        message = f"The cancel is not proven: {left} processes of the job may still run on its shard."
        return Outcome.FAILED, FinishError(code="cancel_unproven", message=message, retryable=False)
    message = "Cancelled as asked for; nothing of the job runs any more."
    return outcome, FinishError(code="cancelled", message=message, retryable=False)
