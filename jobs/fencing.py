"""What every write of a runner goes through: the job's lock, the fence, the lease, and the masking of secrets."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db.models.functions import Now

from jobs.contract import LEASE_S, Cleaner, LeaseAnswer
from jobs.errors import Fenced, UnknownJob
from jobs.models import Attempt, Job
from jobs.secrets import masked_values
from myctobot.lib.crypto import derive_token, digest
from shards.models import Shard

# Every batch of every runner comes through here, and to compile these queries takes Django longer than PostgreSQL
# needs to answer them. What is not named is read when somebody asks for it: a prompt may have a quarter of a megabyte.
_LOCK_JOB = """
    SELECT id, public_id, tenant_id, status, phase, attempt_number, next_seq, cancel_requested_at,
           sealed, inline_secrets, named_secrets, concurrency_key, callback_url, log_bytes, log_head_seq
    FROM jobs_job WHERE public_id = %s FOR UPDATE
"""
_FIND_ATTEMPT = """
    SELECT id, job_id, number, state, shard_id
    FROM jobs_attempt WHERE job_id = %s AND number = %s AND shard_id = %s AND claim_hash = %s
"""


def lease_end() -> Any:
    """The end of a lease that is renewed now, by the database's clock."""
    return Now() + timedelta(seconds=LEASE_S)


def gateway_token(job: Job, attempt: Attempt, claim_token: str) -> str:
    """The attempt's gateway token: derived, so that a repeated claim gets the same one without it being stored."""
    return derive_token("mctg", settings.SECRET_KEY, job.public_id, str(attempt.number), claim_token)


def locked_job(job_id: str) -> Job | None:
    """Lock the job of that public id, which comes from a URL and may be any text; PostgreSQL's has no NUL."""
    return Job.objects.select_for_update().filter(public_id=job_id.replace("\x00", "")).first()


def fenced(shard: Shard, job_id: str, number: int, claim_token: str) -> tuple[Job, Attempt]:
    """Lock the job and return it with the caller's attempt.

    Raises:
        UnknownJob: no such job.
        Fenced: the attempt is not this shard's, or not this runner's.
    """
    job = next(iter(Job.objects.raw(_LOCK_JOB, [job_id.replace("\x00", "")])), None)
    if job is None:
        raise UnknownJob
    if job.attempt_number != number:
        raise Fenced
    held = Attempt.objects.raw(_FIND_ATTEMPT, [job.pk, number, shard.pk, digest(claim_token)])
    attempt = next(iter(held), None)
    if attempt is None:
        raise Fenced
    return job, attempt


def lease_answer(job: Job, next_seq: int) -> LeaseAnswer:
    """What every call that holds its attempt is told."""
    return LeaseAnswer(next_seq=next_seq, lease_s=LEASE_S, cancel=job.cancel_requested_at is not None)


def cleaner_of(job: Job, attempt: Attempt, claim_token: str) -> Cleaner:
    """Masks what the runner should have masked already: the shard is not trusted to."""
    return Cleaner([*masked_values(job), claim_token, gateway_token(job, attempt, claim_token)])
