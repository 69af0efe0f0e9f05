"""Access that a job's gateway token grants, as long as its attempt is the present one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from asgiref.sync import sync_to_async
from django.db.models import QuerySet
from django.db.models.functions import Now

from jobs.lifecycle.secrets import JobSecrets
from jobs.models import Attempt
from jobs.models.states import AttemptState
from myctobot.contract.jobs import JobStatus
from myctobot.errors import InvalidRequest
from myctobot.lib.crypto import CannotUnseal, digest


@dataclass(frozen=True)
class AttemptGrant:
    """Permission to call the LLM for one attempt.

    Attributes:
        tenant_id: owner of the job.
        job_id: public id of the job.
        attempt: number of the attempt.
        anthropic_key: decrypts the tenant's provider key when called; None when the job has none.
    """

    tenant_id: int
    job_id: str
    attempt: int
    anthropic_key: Callable[[], str | None]


def find_grant(token: str) -> AttemptGrant | None:
    """Return the access that a token grants; None if it is unknown, or its attempt ended, is fenced or silent."""
    attempt = _with_grant().select_related("job").filter(gateway_token_hash=digest(token)).first()
    if attempt is None:
        return None
    job = attempt.job

    def anthropic_key() -> str | None:
        try:
            return JobSecrets.of(job).values(job, ("anthropic_api_key",)).get("anthropic_api_key")
        except (InvalidRequest, CannotUnseal):
            return None

    return AttemptGrant(job.tenant_id, job.public_id, attempt.number, anthropic_key)


def find_live(attempts: Iterable[tuple[str, int]]) -> frozenset[tuple[str, int]]:
    """Return those attempts, by job and number, whose tokens grant access."""
    asked = frozenset(attempts)
    rows = _with_grant().filter(job__public_id__in=[job_id for job_id, _ in asked])
    return asked & frozenset(rows.values_list("job__public_id", "number"))


def _with_grant() -> QuerySet[Attempt]:
    return Attempt.objects.filter(
        state=AttemptState.RUNNING,
        lease_until__gt=Now(),
        job__status=JobStatus.RUNNING,
        job__cancel_requested_at=None,
    )


afind_grant = sync_to_async(find_grant)
afind_live = sync_to_async(find_live)
