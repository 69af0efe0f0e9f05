"""What is done whenever somebody asks for a round: slots are given out, and where there are none, had."""

from __future__ import annotations

from typing import Final

from jobs.capacity.pool_load import use_spares
from jobs.capacity.recycling import recycle_used
from jobs.dispatch.round import dispatch_round
from myctobot.lib.sql import one_row
from myctobot.lib.ttl_cache import Remembered

_SPECIAL: Final = """
    SELECT 1 WHERE EXISTS (SELECT FROM shards_pool WHERE mode = 'ephemeral' OR scaling_rules IS NOT NULL)
        OR EXISTS (SELECT FROM shards_shard WHERE is_spare)
"""

# Most have none, and under load rounds come many times a second. A pool that becomes one is noticed a second later.
has_special_pools: Final = Remembered(lambda: one_row(_SPECIAL, []) is not None, 1.0)


def full_round() -> None:
    """Give waiting jobs the slots that are free; bring back shards that had their one job; let spares take the rest."""
    dispatch_round()
    if has_special_pools():
        # A round is asked for after the end of each job, so it is the moment for these too.
        recycle_used()
        use_spares()
