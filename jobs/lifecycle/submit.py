"""What members do to jobs: submit, cancel, retry."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import structlog
from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import QuerySet
from django.db.models.functions import Now

from jobs import broker
from jobs.dispatch.round import burn, request_round
from jobs.dispatch.routing import NoRoute, route
from jobs.dispatch.snapshot import load_snapshot
from jobs.errors import (
    IdempotencyMismatch,
    JobIsNotOver,
    JobIsOver,
    NobodyCanRun,
    NotCertain,
    SecretsNeededAgain,
    TooManyWaiting,
    UnknownJob,
)
from jobs.lifecycle import admission as room
from jobs.lifecycle.secrets import REQUEST_FIELDS, SecretSource, check_secrets, misplaced_secrets, seal_job_secrets
from jobs.lifecycle.transitions import end_job
from jobs.models.job import Job, default_retry_on
from jobs.models.states import AttemptState, Hold
from myctobot.contract.jobs import JobStatus
from myctobot.errors import InvalidRequest
from myctobot.lib.clock import database_now
from myctobot.lib.crypto import keyed_digest
from myctobot.lib.sql import Term, one_row
from myctobot.tenants.authentication import Caller
from myctobot.tenants.models import Tenant

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class JobRequest:
    """A validated request for a job.

    Attributes:
        task: without its secrets.
        capabilities: sorted slugs.
        secrets: by name; each a value, or ``{"secret": name}`` for a stored one.
        timeout_s: wall clock of one attempt, seconds.
        queue_timeout_s: how long it waits for a shard at most, seconds; None without bound.
        no_output_timeout_s: how long its agent may say nothing, seconds; None without bound.
        not_before: when it may start at the earliest.
        concurrency_key: at most ``concurrency_limit`` of the tenant's jobs with the same one have a slot at once.
        max_attempts: that run, in all; see ``retrying``.
        retry_on: causes of failures that are worth another attempt.
    """

    task: dict[str, Any]
    capabilities: list[str]
    priority: int
    timeout_s: int
    max_turns: int
    context: dict[str, Any] = field(default_factory=dict)
    callback_url: str = ""
    queue_timeout_s: int | None = None
    no_output_timeout_s: int | None = None
    not_before: datetime | None = None
    concurrency_key: str = ""
    concurrency_limit: int = 1
    max_attempts: int = 2
    retry_on: list[str] = field(default_factory=default_retry_on)
    secrets: dict[str, SecretSource] = field(default_factory=dict, repr=False)

    def readable_texts(self) -> dict[str, str]:
        """What of it is stored, and shown, as it is; by field."""
        texts = {f"task.{name}": value for name, value in self.task.items()}
        texts |= {f"context.{name}": value for name, value in self.context.items()}
        texts |= {"callback_url": self.callback_url, "capabilities": " ".join(self.capabilities)}
        texts |= {"concurrency.key": self.concurrency_key}
        return {name: value for name, value in texts.items() if isinstance(value, str)}

    def digest(self, retry_of: Job | None = None) -> str:
        """Tells whether two requests are the same, and retry the same job; without giving their content away."""
        content = self.__dict__ if retry_of is None else {**self.__dict__, "retry_of": retry_of.public_id}
        return keyed_digest(settings.SECRET_KEY, json.dumps(content, sort_keys=True, default=str))


def submit(caller: Caller, request: JobRequest, idempotency_key: str | None = None) -> tuple[Job, bool]:
    """Store a job and ask for its dispatch.

    Args:
        caller: whose job it is.
        request: validated.
        idempotency_key: the same key with the same request returns the job that it made before.

    Returns:
        The job, and whether it was made now.

    Raises:
        NobodyCanRun: no shard of the tenant could ever take it.
        UnknownSecret: it names a stored secret that is not there.
        InvalidRequest: a field that anybody of the tenant may read holds one of its secrets.
        IdempotencyMismatch: the key was used for another request.
        TooManyWaiting: the tenant has as many waiting jobs as it may.
        NotCertain: the caller is remembered, and either its key has ended since or nobody can run the job.
    """
    _check_texts(request, idempotency_key)
    return _create_once(caller, request, idempotency_key)


def _create_once(
    caller: Caller, request: JobRequest, idempotency_key: str | None, retry_of: Job | None = None
) -> tuple[Job, bool]:
    if idempotency_key is not None and (found := _same_request(caller, request, idempotency_key, retry_of)):
        return found, False
    if idempotency_key is None:
        return _create(caller, request, None, retry_of), True
    try:
        with transaction.atomic():
            return _create(caller, request, idempotency_key, retry_of), True
    except IntegrityError:
        # Two requests with one key at once: the other one won.
        found = _same_request(caller, request, idempotency_key, retry_of)
        if found is None:
            raise
        return found, False


def _check_texts(request: JobRequest, idempotency_key: str | None) -> None:
    texts = {**request.readable_texts(), "Idempotency-Key": idempotency_key or ""}
    if misplaced := misplaced_secrets(texts, request.secrets):
        raise InvalidRequest(
            fields={
                field: [f"Holds the value of {name}; secrets belong in their own fields only."]
                for field, name in misplaced.items()
            }
        )


def _same_request(caller: Caller, request: JobRequest, key: str, retry_of: Job | None) -> Job | None:
    job = Job.objects.filter(tenant=caller.tenant, idempotency_key=key).first()
    if job and job.request_digest != request.digest(retry_of):
        raise IdempotencyMismatch
    return job


def _create(caller: Caller, request: JobRequest, idempotency_key: str | None, retry_of: Job | None) -> Job:
    # A retry gives its secrets by their own names, without the request around them.
    check_secrets(caller.tenant, request.secrets, REQUEST_FIELDS if retry_of is None else {})
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
        idempotency_key=idempotency_key or None,
        request_digest=request.digest(retry_of) if idempotency_key else "",
    )
    seal_job_secrets(job, request.secrets)
    job.enter_lane()
    terms = _terms_of(request)
    only_if = Term(_SOMEBODY_CAN, [job.capabilities, job.tenant_id])
    if caller.still:
        only_if = Term(f"{only_if.sql} AND {caller.still.sql}", [*only_if.values, *caller.still.values])
    try:
        stored = room.store(job, caller.tenant, terms, only_if)
    except TooManyWaiting:
        # To wait for room would be in vain.
        _refuse_if_nobody_can(job)
        raise
    if not stored:
        if caller.still:
            raise NotCertain
        _refuse_if_nobody_can(job)
        room.store(job, caller.tenant, terms, None)
    log.info("job.submitted", job=job.public_id, tenant=caller.tenant.slug, type=request.task["type"])
    request_round()
    return job


# Whether some shard could ever take a job, by its capabilities and its tenant.
_SOMEBODY_CAN = """
    EXISTS (
        SELECT FROM shards_shard AS shard
        WHERE is_active AND capabilities @> %s::varchar[] AND (pool_id IS NULL OR EXISTS (
            SELECT FROM shards_assignment AS assignment WHERE assignment.tenant_id = %s
                AND (assignment.shard_id = shard.id OR assignment.pool_id = shard.pool_id)
        ))
    )
"""
_NOW = "statement_timestamp()"


def _terms_of(request: JobRequest) -> dict[str, Term]:
    """What of a new job follows from the time, which is the database's."""
    terms = {"created_at": Term(_NOW)}
    start = Term(_NOW)
    if request.not_before is not None:
        start = Term(f"GREATEST({_NOW}, %s::timestamptz)", [request.not_before])
        is_parked = f"%s::timestamptz > {_NOW}"
        terms["hold"] = Term(f"CASE WHEN {is_parked} THEN '{Hold.TIME.value}' ELSE '' END", [request.not_before])
        terms["waiting_code"] = Term(f"CASE WHEN {is_parked} THEN 'parked' ELSE 'new' END", [request.not_before])
    else:
        terms["waiting_code"] = Term("'new'")
    terms["ready_at"] = start
    if request.queue_timeout_s is not None:
        terms["queue_deadline"] = Term(
            f"{start.sql} + make_interval(secs => %s)", [*start.values, request.queue_timeout_s]
        )
    return terms


def _refuse_if_nobody_can(job: Job) -> None:
    """Say what is missing.

    Raises:
        NobodyCanRun: no shard of the tenant could ever take it.
    """
    (somebody_can,) = one_row(f"SELECT {_SOMEBODY_CAN}", [job.capabilities, job.tenant_id]) or (False,)
    if somebody_can:
        return
    # Only who is refused wants the sentence, and the look at all shards that it takes.
    decision = route(job.tenant_id, job.capabilities, load_snapshot(database_now()))
    if isinstance(decision, NoRoute) and not decision.ever:
        raise NobodyCanRun(fields={"capabilities": [decision.reason]})


def key_of_branch(task: dict[str, Any]) -> str:
    """Two jobs that push to the same branch would spoil each other's work, so one waits for the other."""
    return f"{task['repo_url']} {task['branch']}"[:300] if task.get("repo_url") and task.get("branch") else ""


def jobs_called(tenant: Tenant, public_id: str) -> QuerySet[Job]:
    """The tenant's job of that id, or none; an id comes from a URL and may be any text."""
    return Job.objects.filter(tenant=tenant, public_id=public_id) if "\x00" not in public_id else Job.objects.none()


def find_job(tenant: Tenant, public_id: str) -> Job:
    """Return the tenant's job.

    Raises:
        UnknownJob: it has none of that id; another tenant's is just as unknown.
    """
    job = jobs_called(tenant, public_id).first()
    if job is None:
        raise UnknownJob
    return job


def cancel(tenant: Tenant, public_id: str) -> Job:
    """Cancel a job: at once when it waits; when it runs, as soon as its runner has proven that nothing is left.

    Cancelling twice is the same as once.

    Raises:
        UnknownJob: see ``find_job``.
        JobIsOver: it has completed or failed.
    """
    with transaction.atomic():
        job = jobs_called(tenant, public_id).select_for_update().first()
        if job is None:
            raise UnknownJob
        if job.status in (JobStatus.COMPLETED, JobStatus.FAILED):
            raise JobIsOver(f"The job has {job.status} already; there is nothing to cancel.")
        if job.status == JobStatus.QUEUED:
            _cancel_waiting(job)
        elif job.status == JobStatus.RUNNING and job.cancel_requested_at is None:
            Job.objects.filter(pk=job.pk).update(cancel_requested_at=Now())
            transaction.on_commit(lambda: broker.hint_cancel(job.public_id), robust=True)
        job.refresh_from_db()
    return job


def _cancel_waiting(job: Job) -> None:
    for attempt in job.attempts.filter(state=AttemptState.SENT):
        burn(attempt, AttemptState.WITHDRAWN, code="cancelled", message="The job was cancelled before it started.")
    Job.objects.filter(pk=job.pk).update(cancel_requested_at=Now())
    end_job(job, JobStatus.CANCELLED, code="cancelled", message="Cancelled before it started; nothing ran.")


def retry(
    caller: Caller, public_id: str, secrets: dict[str, SecretSource], idempotency_key: str | None = None
) -> tuple[Job, bool]:
    """Start a new job with the same request as one that has ended.

    Args:
        caller: of the same tenant.
        public_id: of the job that ended.
        secrets: in place of those that came with the first request and were wiped with its end; stored
            ones that the job named are found again by themselves.
        idempotency_key: the same key with the same secrets returns the job that it made before.

    Returns:
        The new job, and whether it was made now.

    Raises:
        UnknownJob, NobodyCanRun, UnknownSecret, TooManyWaiting: as for a new job.
        IdempotencyMismatch: the key was used for another request, or to retry another job.
        InvalidRequest: the job has no use for a secret, or holds its value in a field that can be read.
        JobIsNotOver: it still waits or runs.
        SecretsNeededAgain: it had secrets of its own, and not all of them were given again.
    """
    old = find_job(caller.tenant, public_id)
    if not old.is_over:
        raise JobIsNotOver(f"The job is {old.status}; wait for its end or cancel it first.")
    missing = sorted(set(old.inline_secrets) - set(secrets))
    if missing:
        raise SecretsNeededAgain(
            f"The job's {', '.join(missing)} came with the request and was wiped when the job ended: send it again.",
            secrets=missing,
        )
    request = JobRequest(
        task=old.task,
        capabilities=old.capabilities,
        priority=old.priority,
        timeout_s=old.timeout_s,
        max_turns=old.max_turns,
        context=old.context,
        callback_url=old.callback_url,
        queue_timeout_s=old.queue_timeout_s,
        no_output_timeout_s=old.no_output_timeout_s,
        concurrency_key=old.concurrency_key,
        concurrency_limit=old.concurrency_limit,
        max_attempts=old.max_attempts,
        retry_on=old.retry_on,
        secrets={**{name: {"secret": stored} for name, stored in old.named_secrets.items()}, **secrets},
    )
    _check_retry_secrets(request, secrets, idempotency_key)
    return _create_once(caller, request, idempotency_key, retry_of=old)


def _check_retry_secrets(request: JobRequest, given: dict[str, SecretSource], idempotency_key: str | None) -> None:
    """Name the secret's own field in each error: it is all that the caller of a retry can change."""
    problems = {
        name: [f"The job's {field} holds this value; secrets belong in their own fields only. Make a new one."]
        for field, name in misplaced_secrets(request.readable_texts(), given).items()
    }
    if misplaced_secrets({"Idempotency-Key": idempotency_key or ""}, given):
        problems["Idempotency-Key"] = ["Holds the value of a secret; make up another one."]
    if "repo_token" in given and not request.task.get("repo_url"):
        problems["repo_token"] = ["Means nothing without repo_url, and the job has none."]
    if problems:
        raise InvalidRequest(fields=problems)
