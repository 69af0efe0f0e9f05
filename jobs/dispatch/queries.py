"""SQL statements of the dispatch round, one function each.

Jobs that are ready for dispatch are in the partial index ``ready_jobs``, by lane (the requested capabilities), priority
and tenant. A round skips through it from group to group (https://wiki.postgresql.org/wiki/Loose_indexscan) and reads
only as many jobs of a group as it dispatches. The cost depends on the number of dispatched jobs and of waiting tenants,
not on the number of waiting jobs.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import NamedTuple

from django.db import connection

from jobs.dispatch.fair_share import Flow
from jobs.dispatch.routing import Route
from jobs.models import Attempt
from jobs.models.transition_table import DISPATCH, RELEASE
from myctobot.contract.jobs import JobStatus
from myctobot.lib.sql import execute, fetch_all, without_index

# Maximum number of due jobs that a round releases. The next round follows within a second.
_MAX_RELEASED = 1000


class Candidate(NamedTuple):
    """Job that is ready for dispatch, with the columns that a round uses.

    Attributes:
        key, limit: maximum number of the tenant's jobs with this concurrency key that have slots at once.
        waited_s: seconds since the job became ready for dispatch.
    """

    pk: int
    public_id: str
    attempt_number: int
    key: str
    limit: int
    waited_s: float


_COLUMNS = """
    id, public_id, attempt_number, concurrency_key, concurrency_limit,
    extract(epoch FROM statement_timestamp() - ready_at)::float8
"""
_READY = "status = 'queued' AND hold = ''"


def _distinct_values(column: str) -> str:
    """Return a statement that yields the distinct values of a column of the ready jobs, one index access each."""
    return f"""
        WITH RECURSIVE hop AS (
            (SELECT {column} AS value FROM jobs_job WHERE {_READY} ORDER BY {column} LIMIT 1)
            UNION ALL
            SELECT following.value FROM hop, LATERAL (
                SELECT {column} AS value FROM jobs_job WHERE {_READY} AND {column} > hop.value ORDER BY {column} LIMIT 1
            ) following
        )
        SELECT value FROM hop
    """  # noqa: S608  # only our own constants


_FLOWS = f"""
    WITH RECURSIVE flow AS (
        SELECT first.* FROM unnest(%s::text[]) AS wanted(lane), LATERAL (
            SELECT lane, priority, tenant_id, {_COLUMNS} FROM jobs_job
            WHERE {_READY} AND jobs_job.lane = wanted.lane ORDER BY jobs_job.lane, priority, tenant_id, id LIMIT 1
        ) first
        UNION ALL
        SELECT following.* FROM flow, LATERAL (
            SELECT lane, priority, tenant_id, {_COLUMNS} FROM jobs_job
            WHERE {_READY} AND jobs_job.lane = flow.lane AND (priority, tenant_id) > (flow.priority, flow.tenant_id)
            ORDER BY jobs_job.lane, priority, tenant_id, id LIMIT 1
        ) following
    )
    SELECT * FROM flow
"""  # noqa: S608  # only our own constants
_MORE = f"""
    SELECT {_COLUMNS} FROM jobs_job
    WHERE {_READY} AND lane = %s AND priority = %s AND tenant_id = %s AND id > %s
    ORDER BY lane, priority, tenant_id, id LIMIT %s
"""  # noqa: S608  # only our own constants
# Attempts that ended since the given time have no slot any more but count as usage.
_SLOT_USAGE = """
    SELECT job.tenant_id, attempt.shard_class, count(*) FILTER (WHERE attempt.is_live),
        sum(greatest(0, extract(epoch FROM attempt.until - greatest(attempt.sent_at, %s))))::float8
    FROM (
        SELECT job_id, shard_class, sent_at, statement_timestamp() AS until, true AS is_live
        FROM jobs_attempt WHERE state IN ('sent', 'running')
        UNION ALL
        SELECT job_id, shard_class, sent_at, ended_at, false FROM jobs_attempt WHERE ended_at > %s
    ) attempt JOIN jobs_job job ON job.id = attempt.job_id
    GROUP BY 1, 2
"""
# Compare-and-set, because a cancel may have arrived since the round read the job.
_CREATE_ATTEMPTS = f"""
    WITH wanted AS (
        SELECT * FROM unnest(%s::bigint[], %s::int[], %s::text[], %s::text[]) AS w(job_id, number, queue, shard_class)
    ), taken AS (
        UPDATE jobs_job SET attempt_number = wanted.number, {DISPATCH.assignments}
        FROM wanted WHERE jobs_job.id = wanted.job_id AND attempt_number = wanted.number - 1
            AND {DISPATCH.condition(without_index)} AND cancel_requested_at IS NULL
        RETURNING jobs_job.id
    )
    INSERT INTO jobs_attempt (job_id, number, queue, shard_class, state, claim_hash, outcome, error_code, error_message)
    SELECT job_id, number, queue, shard_class, 'sent', '', '', '', '' FROM wanted JOIN taken ON taken.id = job_id
    RETURNING job_id
"""  # noqa: S608  # only our own constants
_RELEASE_DUE = f"""
    UPDATE jobs_job SET {RELEASE.assignments} WHERE id IN (
        SELECT id FROM jobs_job WHERE status = 'queued' AND hold = 'time' AND ready_at <= statement_timestamp()
        ORDER BY ready_at LIMIT {_MAX_RELEASED} FOR UPDATE SKIP LOCKED
    )
"""  # noqa: S608  # only our own constants


def use_index_scans() -> None:
    """Restrict the planner to index scans until the transaction ends.

    Its statistics are outdated after a burst of submits, and one sequential scan costs more than all index accesses.
    """
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off; SET LOCAL jit = off")


def waiting_lanes() -> list[str]:
    """Return the lanes that have ready jobs."""
    return [lane for (lane,) in fetch_all(_distinct_values("lane"))]


def waiting_tenants() -> set[int]:
    """Return the ids of tenants that have ready jobs."""
    return {tenant_id for (tenant_id,) in fetch_all(_distinct_values("tenant_id"))}


def load_flows(lanes: Sequence[str]) -> list[Flow[Candidate]]:
    """Return one flow for each tenant and priority in these lanes, with its oldest job as the head."""
    return [
        Flow(lane, priority, tenant_id, candidate := Candidate(*rest), candidate.pk, candidate.waited_s)
        for lane, priority, tenant_id, *rest in fetch_all(_FLOWS, list(lanes))
    ]


def next_candidates(flow: Flow[Candidate], count: int) -> list[Candidate]:
    """Return the jobs of a flow after its current head, oldest first."""
    after = flow.head.pk
    return [Candidate(*row) for row in fetch_all(_MORE, flow.lane, flow.priority, flow.tenant_id, after, count)]


def slot_usage(since: datetime) -> list[tuple[int, str, int, float]]:
    """Read the slots that tenants use now and have used since a time.

    Returns:
        Tenant id, shard class, number of live attempts, and slot-seconds since then including ended attempts.
    """
    return [(tenant_id, name, count, used_s) for tenant_id, name, count, used_s in fetch_all(_SLOT_USAGE, since, since)]


def failed_shards(job_ids: Collection[int]) -> dict[int, set[str]]:
    """Return the names of the shards on which earlier attempts of these jobs did not complete."""
    found: dict[int, set[str]] = {}
    rows = Attempt.objects.filter(job_id__in=list(job_ids), claimed_at__isnull=False, shard__isnull=False)
    for job_id, name in rows.exclude(outcome=JobStatus.COMPLETED.value).values_list("job_id", "shard__name"):
        found.setdefault(job_id, set()).add(str(name))
    return found


def create_attempts(chosen: Sequence[tuple[Candidate, Route]]) -> set[int]:
    """Create the next attempt of each job; return the keys of jobs that were still ready for dispatch."""
    if not chosen:
        return set()
    columns = zip(*((c.pk, c.attempt_number + 1, r.queue, r.shard_class) for c, r in chosen), strict=True)
    return {job_id for (job_id,) in fetch_all(_CREATE_ATTEMPTS, *map(list, columns))}


def release_due_jobs() -> int:
    """Make delayed jobs ready for dispatch when they are due."""
    return execute(_RELEASE_DUE)
