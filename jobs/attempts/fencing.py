"""What every write of a runner goes through: the fence, the lease, and the masking of secrets."""

from __future__ import annotations

from datetime import datetime
from functools import lru_cache
from typing import Final, NamedTuple

from django.conf import settings

from jobs.errors import Fenced, UnknownJob
from jobs.lifecycle.secrets import masked_values
from jobs.models.job import Attempt, Job
from myctobot.contract.jobs import LEASE_S, Cleaner, LeaseAnswer
from myctobot.lib.crypto import derive_token, digest
from myctobot.lib.sql import Columns, one_row

# Every batch of every runner comes through here, and to compile these queries takes Django longer than PostgreSQL
# needs to answer them. What is not named is read when somebody asks for it: a prompt may have a quarter of a megabyte.
_JOB: Final = Columns(
    Job,
    *("id", "public_id", "tenant_id", "status", "phase", "attempt_number", "next_seq", "cancel_requested_at"),
    *("sealed", "concurrency_key", "callback_url", "log_bytes", "log_head_seq"),
)
_ATTEMPT: Final = Columns(Attempt, "id", "job_id", "number", "state", "shard_id")
# The "+ 0" hides an index: while a table is young PostgreSQL takes all first attempts for a single row, and it keeps to
# its plan until it has looked at the table.
_HELD = f"""
    SELECT {_JOB.of("job")}, {_ATTEMPT.of("attempt")}
    FROM jobs_job AS job LEFT JOIN (
        jobs_attempt AS attempt JOIN shards_shard AS shard ON shard.id = attempt.shard_id AND shard.key_hash = %s
    ) ON attempt.job_id = job.id AND attempt.number + 0 = %s AND attempt.claim_hash = %s
    WHERE job.public_id = %s
"""  # noqa: S608  # only our own constants
# Both rows: of one that was not locked too, what was true before the wait for the other would be read.
_LOCKED = _HELD.replace("LEFT JOIN", "JOIN") + "FOR NO KEY UPDATE OF job, attempt"


class Held(NamedTuple):
    """A job and the attempt that the caller has of it."""

    job: Job
    attempt: Attempt


def gateway_token(job: Job, attempt: Attempt, claim_token: str) -> str:
    """The attempt's gateway token: derived, so that a repeated claim gets the same one without it being stored."""
    return _gateway_token(job.public_id, attempt.number, claim_token)


def _gateway_token(job_id: str, number: int, claim_token: str) -> str:
    return derive_token("mctg", settings.SECRET_KEY, job_id, str(number), claim_token)


def held(key_hash: str, job_id: str, number: int, claim_token: str, *, lock: bool = False) -> Held:
    """Return the job with the caller's attempt, as they are now.

    Args:
        key_hash: digest of the caller's shard key.
        job_id: the job's public id, which comes from a URL and may be any text.
        number: of the attempt.
        claim_token: the runner's alone.
        lock: the job, until the transaction ends. Without it, what is written must compare before it sets.

    Raises:
        UnknownJob: no such job.
        Fenced: the attempt is not this shard's, or not this runner's, or not the present one.
    """
    # PostgreSQL's text has no NUL.
    where = (key_hash, number, digest(claim_token), job_id.replace("\x00", ""))
    row = one_row(_LOCKED if lock else _HELD, where)
    if row is None and lock:
        # Which of the two is missing says a look without the lock.
        row = one_row(_HELD, where)
    if row is None:
        raise UnknownJob
    job = _JOB.instance(row[: len(_JOB)])
    if job.attempt_number != number or row[len(_JOB)] is None:
        raise Fenced
    return Held(job, _ATTEMPT.instance(row[len(_JOB) :]))


def lease_answer(next_seq: int, cancel_requested_at: datetime | None) -> LeaseAnswer:
    """What every call that holds its attempt is told."""
    return LeaseAnswer(next_seq=next_seq, lease_s=LEASE_S, cancel=cancel_requested_at is not None)


def cleaner_of(job: Job, attempt: Attempt, claim_token: str) -> Cleaner:
    """Masks what the runner should have masked already: the shard is not trusted to."""
    if job.sealed:
        return Cleaner([*masked_values(job), claim_token, gateway_token(job, attempt, claim_token)])
    note_secrets(job)
    return _cleaner_of_tokens(job.public_id, attempt.number, claim_token)


# Jobs that were seen to have no secrets; none gets one after its submit.
_without_secrets: set[str] = set()
_MOST_WITHOUT: Final = 10_000


def note_secrets(job: Job) -> None:
    """Remember of a live job that it has no secrets, if that is so."""
    if job.sealed:
        return
    if len(_without_secrets) >= _MOST_WITHOUT:
        _without_secrets.clear()
    _without_secrets.add(job.public_id)


def cleaner_without_secrets(job_id: str, number: int, claim_token: str) -> Cleaner | None:
    """What ``cleaner_of`` makes, for a job that is known to have no secrets; None for all others."""
    return _cleaner_of_tokens(job_id, number, claim_token) if job_id in _without_secrets else None


@lru_cache(maxsize=1024)
def _cleaner_of_tokens(job_id: str, number: int, claim_token: str) -> Cleaner:
    """The attempt's own tokens open nothing after its end, so a while longer in memory harms nobody. Secrets do not
    stay here."""
    return Cleaner([claim_token, _gateway_token(job_id, number, claim_token)])
