"""Push the kept work of a finished job again, without running the agent."""

from __future__ import annotations

from dataclasses import replace

from jobs.errors import JobNotFinished, SecretsRequired, UnknownWork
from jobs.kept_work.storage import read_manifest, work_of
from jobs.lifecycle.job_request import JobRequest, key_of_branch
from jobs.lifecycle.lookup import find_job
from jobs.lifecycle.retry import check_retry_secrets, request_of
from jobs.lifecycle.secrets import SecretSource
from jobs.lifecycle.submit import submit_once
from jobs.models import Job, KeptWork
from myctobot.contract.work import OnFailure
from myctobot.lib.crypto import CannotUnseal
from myctobot.tenants.authentication import Caller

_TOKEN = "repo_token"  # noqa: S105  # the name of a field


def push_again(
    caller: Caller, public_id: str, secrets: dict[str, SecretSource], idempotency_key: str | None = None
) -> tuple[Job, bool]:
    """Start a job that pushes the kept work of a finished one to the same branch.

    Args:
        caller: of the same tenant.
        public_id: id of the finished job.
        secrets: ``repo_token`` in place of the one that came with the first request. A stored one is used again.
        idempotency_key: a second call with the same key and secrets returns the job of the first call.

    Returns:
        The new job, and true if this call stored it.

    Raises:
        JobNotFinished: the job still waits or runs.
        UnknownWork: the job has no kept work with a commit to push.
        SecretsRequired: the job came with a token of its own, and the call does not give it.
        UnknownJob, NoEligibleShard, UnknownSecret, SecretNotAllowed, QueueLimitReached, IdempotencyMismatch,
            InvalidRequest: as for a retry.
    """
    old = find_job(caller.tenant, public_id)
    if not old.is_over:
        raise JobNotFinished(f"The job is {old.status}; wait until it ends or cancel it first.")
    work = _work_to_push(old)
    if _TOKEN in old.inline_secrets and _TOKEN not in secrets:
        raise SecretsRequired(
            f"The job's {_TOKEN} came with the request and was wiped when the job ended; send it again.",
            secrets=[_TOKEN],
        )
    request = _request_of(old, secrets, work)
    check_retry_secrets(request, secrets, idempotency_key)
    return submit_once(caller, request, idempotency_key, retry_of=old)


def _work_to_push(old: Job) -> KeptWork:
    work = work_of(old)
    if work is None:
        raise UnknownWork
    try:
        manifest = read_manifest(work)
    except CannotUnseal as error:
        raise UnknownWork(f"The kept work cannot be opened: {error}.") from error
    if manifest["head"] == manifest["start"]:
        raise UnknownWork("The kept work has no commit on the job's branch; download it to see the others.")
    return work


def _request_of(old: Job, secrets: dict[str, SecretSource], work: KeptWork) -> JobRequest:
    # A branch that is named after the job's id stays the same.
    task = {**old.task, "branch": old.task.get("branch") or f"myctobot/{old.public_id}"}
    request = request_of(old, secrets)
    return replace(
        request,
        task=task,
        # Such a job calls no model and no tracker.
        secrets={name: source for name, source in request.secrets.items() if name == _TOKEN},
        concurrency_key=old.concurrency_key or key_of_branch(task),
        on_failure=OnFailure.KEEP.value,
        work=work.pk,
    )
