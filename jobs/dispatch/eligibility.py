"""Check in SQL if any shard could ever run a job."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from myctobot.lib.sql import SqlFragment

# A test compares this condition with the router's ``NoRoute.can_ever_run``. The second part covers pools that
# autoscaling builds; the snapshot names their first shard "<pool>-0".
_CAN_EVER_RUN: Final = """(
    SELECT EXISTS (
        SELECT FROM shards_shard AS shard
        WHERE shard.is_active AND shard.state <> 'gone' AND shard.capabilities @> wanted.capabilities
            AND (shard.pool_id IS NULL OR EXISTS (
                SELECT FROM shards_assignment AS assignment WHERE assignment.tenant_id = wanted.tenant_id
                    AND (assignment.shard_id = shard.id OR assignment.pool_id = shard.pool_id)
            ))
    ) OR EXISTS (
        SELECT FROM shards_pool AS pool JOIN shards_shardtemplate AS template ON template.id = pool.template_id
        WHERE pool.scaling_rules IS NOT NULL AND NOT pool.scaling_dry_run AND pool.provider <> ''
            AND template.capabilities @> wanted.capabilities
            AND NOT EXISTS (
                SELECT FROM shards_shard AS shard
                WHERE shard.pool_id = pool.id AND shard.is_active AND shard.state <> 'gone'
            )
            AND EXISTS (
                SELECT FROM shards_assignment AS assignment
                LEFT JOIN shards_shard AS shard ON shard.id = assignment.shard_id
                WHERE assignment.tenant_id = wanted.tenant_id
                    AND (assignment.pool_id = pool.id OR shard.name = pool.name || '-0')
            )
    )
    FROM (SELECT %s::varchar[] AS capabilities, %s::bigint AS tenant_id) AS wanted
)"""


def can_ever_run(tenant_id: int, capabilities: Sequence[str]) -> SqlFragment:
    """Return a condition that is true if a shard of the tenant could run a job, now or when it is free and healthy.

    Args:
        tenant_id: primary key of the tenant.
        capabilities: slugs that the job needs.
    """
    # Each value occurs once, because psycopg does not cache a statement with more than 50 values.
    return SqlFragment(_CAN_EVER_RUN, [list(capabilities), tenant_id])
