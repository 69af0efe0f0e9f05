"""Fence of a runner's writes: the attempt must be the present one of its job, of this shard and of this runner."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from django.conf import settings
from django.utils.functional import cached_property

from jobs.errors import Fenced, UnknownJob
from jobs.lifecycle.secrets import redactor_for
from jobs.models import Attempt, Job
from jobs.models.states import AttemptState
from myctobot.contract.jobs import JobStatus
from myctobot.contract.limits import LEASE_S
from myctobot.contract.redaction import Redactor
from myctobot.contract.runner import LeaseAnswer
from myctobot.lib.crypto import derive_token, digest
from myctobot.lib.sql import ColumnSet, fetch_one, without_index
from myctobot.lib.ttl_cache import TtlCache

# Django reads other columns only when they are used: a prompt may have a quarter of a megabyte.
_JOB: Final = ColumnSet(
    Job,
    *("id", "public_id", "tenant_id", "status", "phase", "attempt_number", "next_seq", "cancel_requested_at"),
    *("encrypted_secrets", "concurrency_key", "callback_url", "log_bytes"),
)
_ATTEMPT: Final = ColumnSet(Attempt, "id", "job_id", "number", "state", "shard_id")
_IS_OWN: Final = f"""
    attempt.job_id = job.id AND {without_index("attempt.number")} = %(number)s AND attempt.claim_hash = %(claim_hash)s
"""
_OWN_SHARD: Final = "jobs_attempt AS attempt JOIN shards_shard AS shard ON shard.id = attempt.shard_id"
_READ = f"""
    SELECT {_JOB.of("job")}, {_ATTEMPT.of("attempt")}
    FROM jobs_job AS job LEFT JOIN ({_OWN_SHARD} AND shard.key_hash = %(key_hash)s) ON {_IS_OWN}
    WHERE job.public_id = %(job_id)s
"""  # noqa: S608  # only our own constants
# Each write fences itself: the shard's key or the attempt may have changed since the read.
FENCE_SQL: Final = f"""
    own AS MATERIALIZED (
        SELECT job.id, job.phase, attempt.id AS attempt_id
        FROM jobs_job AS job JOIN ({_OWN_SHARD} AND shard.key_hash = %(key_hash)s) ON {_IS_OWN}
        WHERE job.public_id = %(job_id)s AND {without_index("attempt.state")} = '{AttemptState.RUNNING.value}'
    )
"""  # noqa: S608  # only our own constants
# The writer of an attempt's state holds the row of its job. So this row decides, also after a wait for its lock.
IS_FENCED_SQL: Final = """
    id = (SELECT id FROM own) AND attempt_number = %(number)s AND next_seq = %(expected_seq)s
"""
_MAX_SEQ: Final = 2**62


@dataclass
class FencedAttempt:
    """Attempt of the calling runner, with its job.

    Attributes:
        job, attempt: as they were read.
        key_hash: digest of the caller's shard key.
        claim_token: secret of the calling runner.
        next_seq: number that the next event must have.
        is_running: whether the attempt and its job run.
    """

    job: Job
    attempt: Attempt
    key_hash: str
    claim_token: str
    next_seq: int
    is_running: bool

    @cached_property
    def redactor(self) -> Redactor:
        """Redactor of the job's secrets and the attempt's own tokens, because shards are not trusted to mask them."""
        own = [self.claim_token, gateway_token(self.job, self.attempt, self.claim_token)]
        return redactor_for(self.job, own)

    @property
    def values(self) -> dict[str, Any]:
        """Values for the placeholders of ``FENCE_SQL`` and ``IS_FENCED_SQL``."""
        return {
            "key_hash": self.key_hash,
            "job_id": self.job.public_id,
            "number": self.attempt.number,
            "claim_hash": digest(self.claim_token),
            "expected_seq": self.next_seq,
        }

    def lease_answer(self, next_seq: int, cancel_requested_at: datetime | None) -> LeaseAnswer:
        """Return the answer to every call of a runner whose attempt is fenced."""
        return LeaseAnswer(next_seq=next_seq, lease_s=LEASE_S, cancel=cancel_requested_at is not None)


def gateway_token(job: Job, attempt: Attempt, claim_token: str) -> str:
    """Derive the attempt's gateway token, so that a repeated claim gets the same one and none is stored."""
    return derive_token("mctg", settings.SECRET_KEY, job.public_id, str(attempt.number), claim_token)


def load_fenced_attempt(key_hash: str, job_id: str, number: int, claim_token: str) -> FencedAttempt:
    """Return the caller's attempt and its job, as they are now.

    No row is locked, so a write compares the values that were read.

    Args:
        key_hash: digest of the caller's shard key.
        job_id: the job's public id, which comes from a URL and may be any text.
        number: of the attempt.
        claim_token: secret of the calling runner.

    Raises:
        UnknownJob: no such job.
        Fenced: the attempt is not this shard's, or not this runner's, or not the present one.
    """
    # A text in PostgreSQL has no NUL.
    where = {"key_hash": key_hash, "job_id": job_id.replace("\x00", ""), "number": number}
    row = fetch_one(_READ, {**where, "claim_hash": digest(claim_token)})
    if row is None:
        raise UnknownJob
    job = _JOB.instance(row[: len(_JOB)])
    if job.attempt_number != number or row[len(_JOB)] is None:
        raise Fenced
    attempt = _ATTEMPT.instance(row[len(_JOB) :])
    is_running = attempt.state == AttemptState.RUNNING and job.status == JobStatus.RUNNING
    return FencedAttempt(job, attempt, key_hash, claim_token, job.next_seq, is_running)


class SecretlessAttempts:
    """Attempts that this process has seen running and whose jobs have no secrets.

    The next write of such an attempt needs no read before it: there is nothing to unseal, and the write fences itself.
    This halves the time to store a small batch of events. Secrets never stay in memory.
    """

    _MAX: Final = 2_000
    _TTL_S: Final = 3_600

    def __init__(self) -> None:
        self._attempts: TtlCache[tuple[str, int, str], FencedAttempt] = TtlCache(self._MAX, self._TTL_S)

    def remember(self, fenced: FencedAttempt) -> None:
        """Remember a running attempt if its job has no secrets; no job gets one after its submit."""
        if not fenced.job.encrypted_secrets:
            self._attempts.put((fenced.job.public_id, fenced.attempt.number, fenced.claim_token), fenced)

    def load(self, key_hash: str, job_id: str, number: int, claim_token: str) -> FencedAttempt:
        """Return the caller's attempt as ``load_fenced_attempt`` does, and remember it if it runs."""
        fenced = load_fenced_attempt(key_hash, job_id, number, claim_token)
        if known := self._attempts.get((job_id, number, claim_token)):
            # The job has no secrets, and the redactor of the attempt's own tokens takes time to make.
            fenced.redactor = known.redactor
        elif fenced.is_running:
            self.remember(fenced)
        return fenced

    def assume(self, key_hash: str, job_id: str, number: int, claim_token: str, next_seq: int) -> FencedAttempt | None:
        """Return a remembered attempt as it is if it still runs and expects this event; None if it is unknown.

        The result is an assumption: only a write that fences itself and stores no secret may use it.
        """
        known = self._attempts.get((job_id, number, claim_token))
        if known is None or next_seq > _MAX_SEQ:
            return None
        assumed = FencedAttempt(known.job, known.attempt, key_hash, claim_token, next_seq, is_running=True)
        assumed.redactor = known.redactor
        return assumed
