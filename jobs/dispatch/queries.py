"""The queue in PostgreSQL: what a dispatch round reads and writes of it, a statement for each step.

Jobs that could be dispatched now are in the partial index ``ready_jobs``, by lane (the capabilities asked for),
priority and tenant. A round hops through it from group to group (https://wiki.postgresql.org/wiki/Loose_indexscan) and
reads of each group no more than it dispatches. So its cost follows what is dispatched and how many tenants wait, not
how many jobs do.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from django.db import connection

from jobs.dispatch.fair_share import Flow
from jobs.dispatch.routing import Route
from jobs.models.job import Attempt, Job
from jobs.models.states import Hold
from myctobot.contract.jobs import JobStatus

# Parked jobs whose time has come, a round. The next one comes within a second.
_MOST_RELEASED = 1000


class Candidate(NamedTuple):
    """A job that could be dispatched, with what a round wants to know of it.

    Attributes:
        key, limit: at most so many of the tenant's jobs with this key have slots at once.
        waited_s: since it could have been dispatched.
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


def _each(column: str) -> str:
    """A statement that gives each value that a column has among the jobs of the line, at the cost of a hop."""
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
_HOLDERS = """
    SELECT tenant_id, concurrency_key, count(*) FROM jobs_job
    WHERE (status = 'running' OR (status = 'queued' AND hold = 'sent'))
        AND (tenant_id, concurrency_key) IN (SELECT * FROM unnest(%s::bigint[], %s::text[]))
    GROUP BY 1, 2
"""
# An attempt that ended since has no slot any more, but it used one.
_IN_FLIGHT = """
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
# Compare-and-set: a cancel may have come in since the round read the job.
_SEND = """
    WITH wanted AS (
        SELECT * FROM unnest(%s::bigint[], %s::int[], %s::text[], %s::text[]) AS w(job_id, number, queue, shard_class)
    ), taken AS (
        UPDATE jobs_job SET attempt_number = wanted.number, hold = 'sent', waiting_code = 'dispatched',
            waiting_reason = 'A shard is about to take this job.'
        FROM wanted WHERE jobs_job.id = wanted.job_id AND attempt_number = wanted.number - 1
            AND status = 'queued' AND hold = '' AND cancel_requested_at IS NULL
        RETURNING jobs_job.id
    )
    INSERT INTO jobs_attempt (job_id, number, queue, shard_class, state, claim_hash, outcome, error_code, error_message)
    SELECT job_id, number, queue, shard_class, 'sent', '', '', '', '' FROM wanted JOIN taken ON taken.id = job_id
    RETURNING job_id
"""
_RELEASE_PARKED = f"""
    UPDATE jobs_job SET hold = '', waiting_code = 'new', waiting_reason = '' WHERE id IN (
        SELECT id FROM jobs_job WHERE status = 'queued' AND hold = 'time' AND ready_at <= statement_timestamp()
        ORDER BY ready_at LIMIT {_MOST_RELEASED} FOR UPDATE SKIP LOCKED
    )
"""  # noqa: S608  # only our own constants
_NEXT_OF_KEY = """
    UPDATE jobs_job SET hold = '', waiting_code = 'new', waiting_reason = '' WHERE id = (
        SELECT id FROM jobs_job
        WHERE tenant_id = %s AND concurrency_key = %s AND status = 'queued' AND hold = 'key'
        ORDER BY tenant_id, concurrency_key, priority, id LIMIT 1 FOR UPDATE SKIP LOCKED
    )
"""
_HELD_KEYS = """
    WITH RECURSIVE hop AS (
        (SELECT tenant_id, concurrency_key, concurrency_limit FROM jobs_job WHERE status = 'queued' AND hold = 'key'
            ORDER BY tenant_id, concurrency_key, priority, id LIMIT 1)
        UNION ALL
        SELECT following.* FROM hop, LATERAL (
            SELECT tenant_id, concurrency_key, concurrency_limit FROM jobs_job WHERE status = 'queued' AND hold = 'key'
                AND (tenant_id, concurrency_key) > (hop.tenant_id, hop.concurrency_key)
            ORDER BY tenant_id, concurrency_key, priority, id LIMIT 1
        ) following
    )
    SELECT * FROM hop
"""


def _rows(statement: str, *values: Any) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        rows: list[tuple[Any, ...]] = cursor.fetchall()
    return rows


def _changed(statement: str, *values: Any) -> int:
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        changed: int = cursor.rowcount
    return changed


def walk_the_index() -> None:
    """Keep the planner on the indexes until the transaction ends.

    After a burst of submits its figures are old, and one whole scan costs more than all the hops.
    """
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off; SET LOCAL jit = off")


def waiting_lanes() -> list[str]:
    """Lanes in which any job could be dispatched."""
    return [lane for (lane,) in _rows(_each("lane"))]


def waiting_tenants() -> set[int]:
    """Tenants of which any job could be dispatched, by id."""
    return {tenant_id for (tenant_id,) in _rows(_each("tenant_id"))}


def flows_of(lanes: Sequence[str]) -> list[Flow[Candidate]]:
    """What waits in these lanes: of each tenant and priority the oldest job."""
    return [
        Flow(lane, priority, tenant_id, candidate := Candidate(*rest), candidate.pk, candidate.waited_s)
        for lane, priority, tenant_id, *rest in _rows(_FLOWS, list(lanes))
    ]


def more_of(flow: Flow[Candidate], count: int) -> list[Candidate]:
    """A flow's jobs after its latest head, oldest first."""
    after = flow.head.pk
    return [Candidate(*row) for row in _rows(_MORE, flow.lane, flow.priority, flow.tenant_id, after, count)]


def count_key_holders(keys: Collection[tuple[int, str]]) -> dict[tuple[int, str], int]:
    """How many jobs with each concurrency key are with shards, by tenant and key."""
    if not keys:
        return {}
    tenants, names = zip(*keys, strict=True)
    return {(tenant_id, key): count for tenant_id, key, count in _rows(_HOLDERS, list(tenants), list(names))}


def in_flight(since: datetime) -> list[tuple[int, str, int, float]]:
    """Attempts that have a slot or are about to, and those that ended since then.

    Returns:
        By tenant id and class: how many have one now, and the slot-seconds that all of them had since then.
    """
    return [(tenant_id, name, count, used_s) for tenant_id, name, count, used_s in _rows(_IN_FLIGHT, since, since)]


def lost_on(job_ids: Collection[int]) -> dict[int, set[str]]:
    """Names of the shards that failed these jobs before."""
    found: dict[int, set[str]] = {}
    rows = Attempt.objects.filter(job_id__in=list(job_ids), claimed_at__isnull=False, shard__isnull=False)
    for job_id, name in rows.exclude(outcome=JobStatus.COMPLETED.value).values_list("job_id", "shard__name"):
        found.setdefault(job_id, set()).add(str(name))
    return found


def send(chosen: Sequence[tuple[Candidate, Route]]) -> set[int]:
    """Give jobs their next attempts; returns the keys of those that still wanted one."""
    if not chosen:
        return set()
    columns = zip(*((c.pk, c.attempt_number + 1, r.queue, r.shard_class) for c, r in chosen), strict=True)
    return {job_id for (job_id,) in _rows(_SEND, *map(list, columns))}


def hold_for_key(job_ids: Collection[int]) -> None:
    """Take jobs out of the line until one with their key ends; see ``release_key``."""
    if job_ids:
        Job.objects.filter(pk__in=list(job_ids), status=JobStatus.QUEUED, hold=Hold.NONE).update(hold=Hold.KEY)


def release_parked() -> int:
    """Put jobs whose time has come into the line."""
    return _changed(_RELEASE_PARKED)


def release_key(job: Job) -> None:
    """A job that had a slot has given it back: the next with its key may have its turn."""
    if job.concurrency_key:
        _changed(_NEXT_OF_KEY, job.tenant_id, job.concurrency_key)


def release_free_keys() -> int:
    """Wake jobs whose key is free though nobody woke them: a round may put one aside just as the holder ends."""
    held = {(tenant_id, key): limit for tenant_id, key, limit in _rows(_HELD_KEYS)}
    holders = count_key_holders(held.keys())
    free = [place for place, limit in held.items() if holders.get(place, 0) < limit]
    return sum(_changed(_NEXT_OF_KEY, tenant_id, key) for tenant_id, key in free)
