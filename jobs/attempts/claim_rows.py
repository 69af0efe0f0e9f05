"""Rows that a claim reads, and the answer that they make."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import islice, product
from typing import Any, Final

from django.conf import settings

from jobs.attempts.fencing import FencedAttempt, gateway_token
from jobs.errors import UnknownWork
from jobs.kept_work.storage import read_manifest
from jobs.lifecycle.secrets import secrets_for_runner
from jobs.models import Attempt, Job, KeptWork
from jobs.models.states import AttemptState
from myctobot.contract.jobs import JobStatus
from myctobot.contract.runner import ClaimAnswer, ClaimRequest
from myctobot.contract.shards import class_queue, shard_queue
from myctobot.contract.work import WorkManifest
from myctobot.lib.crypto import digest, keyed_digest
from myctobot.lib.sql import ColumnSet, fetch_one, without_index
from myctobot.tenants.repository_policies import read_policy
from shards.health.rules import may_take_jobs
from shards.models import PoolMode, Shard, ShardState

_JOB: Final = ColumnSet(
    Job,
    *("id", "public_id", "tenant_id", "status", "attempt_number", "next_seq", "capabilities", "timeout_s"),
    *("no_output_timeout_s", "max_turns", "encrypted_secrets", "concurrency_key", "callback_url", "log_bytes"),
    *("work_id", "is_push", "on_failure"),
)
_ATTEMPT: Final = ColumnSet(Attempt, "id", "job_id", "number", "state", "queue", "claim_hash", "shard_id")
_SHARD: Final = ColumnSet(
    Shard, *("id", "name", "capabilities", "is_active", "state", "max_concurrent_jobs", "is_spare", "is_used")
)


def count_running_sql(shard: str) -> str:
    """Return the statement that counts what a shard runs, which is given as an SQL expression."""
    return f"SELECT count(*) FROM jobs_attempt WHERE shard_id = {shard} AND ended_at IS NULL"  # noqa: S608  # our own


def _may_take_jobs_sql() -> str:
    """Return ``may_take_jobs`` as an SQL condition on ``shards_shard``, from its table of truth."""
    allowed = [
        f"({is_active}, {is_spare}, '{state.value}')"
        for is_active, is_spare, state in product((True, False), (True, False), ShardState)
        if may_take_jobs(is_active=is_active, is_spare=is_spare, state=state)
    ]
    return f"(is_active, is_spare, state) IN ({', '.join(allowed)})"


MAY_TAKE_JOBS_SQL: Final = _may_take_jobs_sql()
_READ = f"""
    SELECT {_JOB.of("job")}, {_ATTEMPT.of("attempt")}, {_SHARD.of("shard")},
        (SELECT name FROM shards_pool WHERE id = shard.pool_id),
        (SELECT mode FROM shards_pool WHERE id = shard.pool_id), shard.report -> 'slots',
        job.task::text, job.context::text
    FROM shards_shard AS shard, jobs_job AS job, jobs_attempt AS attempt
    WHERE shard.key_hash = %(key_hash)s AND job.public_id = %(job_id)s AND attempt.job_id = job.id
        AND {without_index("attempt.number")} = %(number)s
"""  # noqa: S608  # only our own constants


@dataclass(frozen=True)
class Claim:
    """Facts that decide a claim, as they were read.

    Attributes:
        key_hash: digest of the caller's shard key.
        claim_token: secret of the calling runner.
        slots: number of jobs that the shard may run at once.
        is_ephemeral: whether the shard is re-created after each job.
    """

    key_hash: str
    claim_token: str
    job: Job
    attempt: Attempt
    shard: Shard
    slots: int
    is_ephemeral: bool
    task: dict[str, Any]
    context: dict[str, Any]

    @property
    def claim_hash(self) -> str:
        return digest(self.claim_token)

    @property
    def is_repeated(self) -> bool:
        """True if this runner has the attempt already."""
        owner = (self.attempt.claim_hash, self.attempt.shard_id)
        return self.attempt.state == AttemptState.RUNNING and owner == (self.claim_hash, self.shard.pk)

    @property
    def is_open(self) -> bool:
        """True if the attempt waits for a runner."""
        is_present = self.job.attempt_number == self.attempt.number
        return self.attempt.state == AttemptState.SENT and self.job.status == JobStatus.QUEUED and is_present

    @property
    def refusal(self) -> str | None:
        """Reason why the shard takes no job, as a sentence; None when it takes one if it has a free slot."""
        shard = self.shard
        if not may_take_jobs(is_active=shard.is_active, is_spare=shard.is_spare, state=shard.state):
            return f"Shard {shard.name} takes no new jobs."
        if self.is_ephemeral and shard.is_used:
            return f"Shard {shard.name} had a job; it takes the next one once it is re-created."
        return None

    def full_refusal(self) -> str | None:
        """Read how many jobs the shard runs; return a refusal as a sentence if no slot is free, otherwise None."""
        (running,) = fetch_one(count_running_sql("%s"), [self.shard.pk]) or (0,)
        if running >= self.slots:
            return f"Shard {self.shard.name} runs {running} of {self.slots} jobs; it has no free slot."
        return None

    def fenced_attempt(self) -> FencedAttempt:
        """Return the attempt as it is once the claim is written."""
        return FencedAttempt(
            self.job, self.attempt, self.key_hash, self.claim_token, self.job.next_seq, is_running=True
        )

    def answer(self) -> ClaimAnswer:
        """Return all that the runner needs.

        Raises:
            UnknownSecret: a stored secret of the job is gone.
            SecretNotAllowed: the job may not use a stored secret any more.
            CannotUnseal: the key that sealed one is gone.
            UnknownWork: the work that the job was to push is gone.
        """
        job, task = self.job, dict(self.task)
        if task.get("repo_url"):
            task.setdefault("branch", f"myctobot/{job.public_id}")
        if extra := self.context.get("additional_instructions"):
            task["additional_instructions"] = extra
        token = gateway_token(job, self.attempt, self.claim_token)
        answer = ClaimAnswer(
            job_id=job.public_id,
            attempt=self.attempt.number,
            next_seq=job.next_seq,
            task=task,  # type: ignore[typeddict-item]  # the serializer that stored it gave it this shape
            capabilities=job.capabilities,
            timeout_s=job.timeout_s,
            no_output_timeout_s=job.no_output_timeout_s,
            max_turns=job.max_turns,
            secrets=secrets_for_runner(job),
            gateway={"url": settings.GATEWAY_URL, "token": token},
            work_max_mb=settings.WORK_MAX_MB,
            on_failure=job.on_failure,
        )
        if (job.work_id is not None or job.is_push) and (work := self._work_to_push()) is not None:
            answer["work"] = work
            # A shard of an earlier release would run the agent, but it refuses a gateway without a secure address.
            answer["gateway"]["url"] = ""
        if repo_url := task.get("repo_url"):
            answer["push_policy"] = read_policy(job.tenant_id, repo_url)
            # A shard that is re-created after each job has no next one.
            if settings.KEEP_REPOSITORY_OBJECTS and not self.is_ephemeral:
                answer["object_scope"] = keyed_digest(settings.SECRET_KEY, f"objects of tenant {job.tenant_id}")
        return answer

    def _work_to_push(self) -> WorkManifest | None:
        """Return the work of an earlier attempt; None if it is gone, and then the agent has to run."""
        work = KeptWork.objects.filter(pk=self.job.work_id or 0, is_complete=True).first()
        if work is None:
            if self.job.is_push:
                raise UnknownWork("The kept work that the job was to push is gone.")
            return None
        manifest = read_manifest(work)
        if work.job_id != self.job.pk:
            # The job that the agent worked for has its usage already.
            manifest["result"].pop("usage", None)
        return manifest


def read_claim(key_hash: str, job_id: str, request: ClaimRequest) -> Claim | None:
    """Read what decides a claim; None when no such attempt was sent to this shard.

    Args:
        key_hash: digest of the caller's shard key.
        job_id: public id of the job, which comes from a URL and may be any text.
        request: see the contract.
    """
    # A text in PostgreSQL has no NUL.
    where = {"key_hash": key_hash, "job_id": job_id.replace("\x00", ""), "number": request["attempt"]}
    row = fetch_one(_READ, where)
    if row is None:
        return None
    columns = iter(row)
    job = _JOB.instance([*islice(columns, len(_JOB))])
    attempt = _ATTEMPT.instance([*islice(columns, len(_ATTEMPT))])
    shard = _SHARD.instance([*islice(columns, len(_SHARD))])
    pool, mode, reported, task, context = columns
    if attempt.queue not in (class_queue(shard.capabilities, pool), shard_queue(shard.name)):
        return None
    is_ephemeral = mode == PoolMode.EPHEMERAL
    allowed = 1 if is_ephemeral else shard.max_concurrent_jobs
    slots = allowed if reported is None else min(allowed, int(reported))
    return Claim(
        *(key_hash, request["claim_token"], job, attempt, shard, slots, is_ephemeral),
        json.loads(task),
        json.loads(context),
    )
