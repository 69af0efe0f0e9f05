"""One pass of the control loop: dispatch jobs, recycle used shards and activate warm spares."""

from __future__ import annotations

from typing import Final

from jobs.capacity.pool_load import use_spares
from jobs.capacity.recycling import recycle_used
from jobs.dispatch.round import dispatch_round
from myctobot.lib.sql import fetch_one
from myctobot.lib.ttl_cache import CachedValue

_SPECIAL: Final = """
    SELECT 1 WHERE EXISTS (SELECT FROM shards_pool WHERE mode = 'ephemeral' OR scaling_rules IS NOT NULL)
        OR EXISTS (SELECT FROM shards_shard WHERE is_spare)
"""

# Cached, because most installations have no such pool and rounds run many times a second under load.
has_special_pools: Final = CachedValue(lambda: fetch_one(_SPECIAL, []) is not None, 1.0)


def run_once() -> None:
    """Assign free slots to waiting jobs, re-create used shards, and activate spares for the remaining jobs."""
    dispatch_round()
    if has_special_pools():
        # A round follows the end of each job, which is when a used shard becomes idle.
        recycle_used()
        use_spares()
