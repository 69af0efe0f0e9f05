"""Submit a job: check a request, store it once, and ask for a dispatch round."""

from __future__ import annotations

from typing import Final

import structlog
from django.db import IntegrityError, transaction

from jobs.dispatch.eligibility import can_ever_run
from jobs.dispatch.routing import NoRoute, route
from jobs.dispatch.snapshot import load_snapshot
from jobs.dispatch.wakeup import request_round_after_commit
from jobs.errors import IdempotencyMismatch, NoEligibleShard, QueueLimitReached, StaleCaller
from jobs.lifecycle.admission import WaitingLimit, insert_within_limit
from jobs.lifecycle.job_request import JobRequest, key_of_branch
from jobs.lifecycle.model_access import check_model_access
from jobs.lifecycle.secrets import JobSecrets
from jobs.models import Job
from jobs.models.states import Hold
from myctobot.errors import InvalidRequest
from myctobot.lib.clock import database_now
from myctobot.lib.sql import SqlFragment, fetch_one
from myctobot.tenants.authentication import Caller

log = structlog.get_logger(__name__)

_NOW: Final = "statement_timestamp()"


def submit(
    caller: Caller,
    request: JobRequest,
    idempotency_key: str | None = None,
    *,
    retry_of: Job | None = None,
    guard: SqlFragment | None = None,
    waiting_limit: WaitingLimit | None = None,
) -> tuple[Job, bool]:
    """Store a job and ask for its dispatch.

    Args:
        caller: tenant, user and API key that the job belongs to.
        request: the validated request.
        idempotency_key: a second call with the same key and request returns the job of the first call.
        retry_of: the finished job that a member edited into this request.
        guard: condition that must hold in the statement that stores the job, such as that a cached API key is live.
        waiting_limit: see ``insert_within_limit``.

    Returns:
        The job, and true if this call stored it.

    Raises:
        NoEligibleShard: no shard of the tenant could ever run the job.
        NoModelAccess: the job has no provider key, and needs one.
        UnknownSecret: the request names a stored secret that does not exist or cannot be opened.
        SecretNotAllowed: the request names a stored secret that is not bound to its purpose, host or role.
        InvalidRequest: a readable field holds one of the request's secrets.
        IdempotencyMismatch: the key belongs to another request.
        QueueLimitReached: the tenant has as many waiting jobs as it may have.
        StaleCaller: the guard does not hold.
    """
    texts = {**request.readable_texts(), "Idempotency-Key": idempotency_key or ""}
    if misplaced := JobSecrets(request.secrets).misplaced_in(texts):
        raise InvalidRequest(
            fields={
                field: [f"Holds the value of {name}; secrets belong in their own fields only."]
                for field, name in misplaced.items()
            }
        )
    return submit_once(caller, request, idempotency_key, retry_of=retry_of, guard=guard, waiting_limit=waiting_limit)


def submit_once(
    caller: Caller,
    request: JobRequest,
    idempotency_key: str | None,
    *,
    retry_of: Job | None = None,
    guard: SqlFragment | None = None,
    waiting_limit: WaitingLimit | None = None,
) -> tuple[Job, bool]:
    """Store a job whose readable fields were checked, unless its idempotency key has one.

    Args:
        retry_of: the job that this one repeats; None for a first request.

    Other arguments, the result and the errors are those of ``submit``.
    """
    if idempotency_key is not None and (found := _same_request(caller, request, idempotency_key, retry_of)):
        return found, False
    if request.work is None:
        check_model_access(caller, request)
    job = _new_job(caller, request, idempotency_key, retry_of)
    try:
        if idempotency_key is None:
            _store(job, request, guard, waiting_limit)
        else:
            with transaction.atomic():
                _store(job, request, guard, waiting_limit)
    except IntegrityError:
        # Another request with the same key was faster.
        found = _same_request(caller, request, idempotency_key, retry_of) if idempotency_key is not None else None
        if found is None:
            raise
        return found, False
    log.info("job.submitted", job=job.public_id, tenant=caller.tenant.slug, type=request.task["type"])
    request_round_after_commit()
    return job, True


def _same_request(caller: Caller, request: JobRequest, key: str, retry_of: Job | None) -> Job | None:
    job = Job.objects.filter(tenant=caller.tenant, idempotency_key=key).first()
    if job and job.request_digest != request.digest(retry_of):
        raise IdempotencyMismatch
    return job


def _new_job(caller: Caller, request: JobRequest, idempotency_key: str | None, retry_of: Job | None) -> Job:
    job = Job(
        tenant=caller.tenant,
        created_by=caller.user,
        api_key=caller.api_key,
        retry_of=retry_of,
        task=request.task,
        context=request.context,
        capabilities=request.capabilities,
        priority=request.priority,
        timeout_s=request.timeout_s,
        max_turns=request.max_turns,
        callback_url=request.callback_url,
        queue_timeout_s=request.queue_timeout_s,
        no_output_timeout_s=request.no_output_timeout_s,
        not_before=request.not_before,
        concurrency_key=request.concurrency_key or key_of_branch(request.task),
        concurrency_limit=request.concurrency_limit,
        max_attempts=request.max_attempts,
        retry_on=request.retry_on,
        on_failure=request.on_failure,
        work_id=request.work,
        is_push=request.work is not None,
        idempotency_key=idempotency_key or None,
        request_digest=request.digest(retry_of) if idempotency_key else "",
    )
    JobSecrets(request.secrets).seal_into(job, caller.role, is_retry=retry_of is not None)
    job.enter_lane()
    return job


def _store(job: Job, request: JobRequest, guard: SqlFragment | None, waiting_limit: WaitingLimit | None) -> None:
    computed = _computed_columns(request)
    eligible = can_ever_run(job.tenant_id, job.capabilities)
    condition = eligible
    if guard is not None:
        condition = SqlFragment(f"{eligible.sql} AND {guard.sql}", [*eligible.values, *guard.values])
    try:
        if insert_within_limit(job, job.tenant, computed, condition, waiting_limit):
            return
    except QueueLimitReached:
        # A tenant must not wait for room for a job that no shard can run.
        if not _holds(eligible):
            _refuse_ineligible(job)
        raise
    if guard is not None and not _holds(guard):
        raise StaleCaller
    _refuse_ineligible(job)
    # A shard was added after the first statement.
    if not insert_within_limit(job, job.tenant, computed, guard, waiting_limit):
        raise StaleCaller


def _holds(condition: SqlFragment) -> bool:
    (holds,) = fetch_one(f"SELECT {condition.sql}", condition.values) or (False,)
    return bool(holds)


def _refuse_ineligible(job: Job) -> None:
    """Raise NoEligibleShard, with a reason, if the router knows of no shard that could ever run the job."""
    decision = route(job.tenant_id, job.capabilities, load_snapshot(database_now()))
    if isinstance(decision, NoRoute) and not decision.can_ever_run:
        raise NoEligibleShard(fields={"capabilities": [decision.reason]})


def _computed_columns(request: JobRequest) -> dict[str, SqlFragment]:
    """Return the columns of a new job that depend on the time, because only the clock of the database counts."""
    columns = {"created_at": SqlFragment(_NOW)}
    start = SqlFragment(_NOW)
    if request.not_before is None:
        columns["waiting_code"] = SqlFragment("'new'")
    else:
        start = SqlFragment(f"GREATEST({_NOW}, %s::timestamptz)", [request.not_before])
        is_parked = f"%s::timestamptz > {_NOW}"
        columns["hold"] = SqlFragment(
            f"CASE WHEN {is_parked} THEN '{Hold.DELAYED.value}' ELSE '' END", [request.not_before]
        )
        columns["waiting_code"] = SqlFragment(
            f"CASE WHEN {is_parked} THEN 'parked' ELSE 'new' END", [request.not_before]
        )
    columns["ready_at"] = start
    if request.queue_timeout_s is not None:
        columns["queue_deadline"] = SqlFragment(
            f"{start.sql} + make_interval(secs => %s)", [*start.values, request.queue_timeout_s]
        )
    return columns
