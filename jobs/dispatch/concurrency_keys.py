"""Concurrency keys: hold jobs whose key has reached its limit, and release them."""

from __future__ import annotations

from collections.abc import Collection

from jobs.models.transition_table import HOLD_FOR_KEY, RELEASE
from myctobot.lib.sql import execute, fetch_all, without_index

_HOLDERS = """
    SELECT tenant_id, concurrency_key, count(*) FROM jobs_job
    WHERE (status = 'running' OR (status = 'queued' AND hold = 'sent'))
        AND (tenant_id, concurrency_key) IN (SELECT * FROM unnest(%s::bigint[], %s::text[]))
    GROUP BY 1, 2
"""


def release_next_sql(tenant: str = "%s", key: str = "%s", condition: str = "") -> str:
    """Return the statement that releases the next job that waits for a concurrency key.

    Args:
        tenant, key: SQL expressions.
        condition: a further condition on the job that is released, beginning with AND.
    """
    return f"""
        UPDATE jobs_job SET {RELEASE.assignments} WHERE id = (
            SELECT id FROM jobs_job
            WHERE tenant_id = {tenant} AND concurrency_key = {key} AND status = 'queued' AND hold = 'key' {condition}
            ORDER BY tenant_id, concurrency_key, priority, id LIMIT 1 FOR UPDATE SKIP LOCKED
        )
    """  # noqa: S608  # only our own constants


_RELEASE_NEXT = release_next_sql()
_HOLD = f"""
    UPDATE jobs_job SET {HOLD_FOR_KEY.assignments}
    WHERE id = ANY(%s) AND {HOLD_FOR_KEY.condition(without_index)}
"""  # noqa: S608  # only our own constants


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


def count_key_holders(keys: Collection[tuple[int, str]]) -> dict[tuple[int, str], int]:
    """Return how many jobs with each concurrency key have a slot, by tenant and key."""
    if not keys:
        return {}
    tenants, names = zip(*keys, strict=True)
    return {(tenant_id, key): count for tenant_id, key, count in fetch_all(_HOLDERS, list(tenants), list(names))}


def hold_for_key(job_ids: Collection[int]) -> None:
    """Hold jobs until another job with their key ends; see ``release_next_sql``."""
    if job_ids:
        execute(_HOLD, list(job_ids))


def release_free_keys() -> int:
    """Release jobs whose key is free but that no end released: a round may hold a job just as the last holder ends."""
    held = {(tenant_id, key): limit for tenant_id, key, limit in fetch_all(_HELD_KEYS)}
    holders = count_key_holders(held.keys())
    free = [key for key, limit in held.items() if holders.get(key, 0) < limit]
    return sum(execute(_RELEASE_NEXT, tenant_id, key) for tenant_id, key in free)
