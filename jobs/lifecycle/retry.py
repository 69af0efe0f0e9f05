"""Start a new job with the request of a finished one."""

from __future__ import annotations

from jobs.errors import JobNotFinished, SecretsRequired
from jobs.lifecycle.job_request import JobRequest
from jobs.lifecycle.lookup import find_job
from jobs.lifecycle.secrets import JobSecrets, SecretSource
from jobs.lifecycle.submit import submit_once
from jobs.models import Job
from myctobot.errors import InvalidRequest
from myctobot.tenants.authentication import Caller


def retry(
    caller: Caller, public_id: str, secrets: dict[str, SecretSource], idempotency_key: str | None = None
) -> tuple[Job, bool]:
    """Start a new job with the same request as a finished one.

    Args:
        caller: of the same tenant.
        public_id: id of the finished job.
        secrets: replace the secrets that came with the first request, because those were wiped when the job ended.
            Stored secrets that the job named are used again.
        idempotency_key: a second call with the same key and secrets returns the job of the first call.

    Returns:
        The new job, and true if this call stored it.

    Raises:
        UnknownJob, NoEligibleShard, NoModelAccess, UnknownSecret, SecretNotAllowed, QueueLimitReached: as for a new
            job.
        IdempotencyMismatch: the key belongs to another request, or to the retry of another job.
        InvalidRequest: the job has no use for a secret, or a readable field holds its value.
        JobNotFinished: the job still waits or runs.
        SecretsRequired: the job came with secrets of its own, and the call does not give all of them.
    """
    old = find_job(caller.tenant, public_id)
    if not old.is_over:
        raise JobNotFinished(f"The job is {old.status}; wait until it ends or cancel it first.")
    missing = sorted(set(old.inline_secrets) - set(secrets))
    if missing:
        raise SecretsRequired(
            f"The job's {', '.join(missing)} came with the request and was wiped when the job ended; send it again.",
            secrets=missing,
        )
    request = request_of(old, secrets)
    check_retry_secrets(request, secrets, idempotency_key)
    return submit_once(caller, request, idempotency_key, retry_of=old)


def request_of(old: Job, secrets: dict[str, SecretSource]) -> JobRequest:
    """Return the request of a job again, with its stored secrets and those that the caller gives."""
    return JobRequest(
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
        on_failure=old.on_failure,
        secrets={**{name: {"secret": stored} for name, stored in old.named_secrets.items()}, **secrets},
    )


def check_retry_secrets(request: JobRequest, given: dict[str, SecretSource], idempotency_key: str | None) -> None:
    """Raise InvalidRequest for a misplaced secret; the error names the secret, which the caller can change."""
    secrets = JobSecrets(given)
    problems = {
        name: [f"The job's {field} holds this value; secrets belong in their own fields only. Use a new secret."]
        for field, name in secrets.misplaced_in(request.readable_texts()).items()
    }
    if secrets.misplaced_in({"Idempotency-Key": idempotency_key or ""}):
        problems["Idempotency-Key"] = ["Holds the value of a secret; choose another key."]
    if "repo_token" in given and not request.task.get("repo_url"):
        problems["repo_token"] = ["Has no use without repo_url, and the job has none."]
    if problems:
        raise InvalidRequest(fields=problems)
