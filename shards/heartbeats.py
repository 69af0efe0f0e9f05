"""Taking in what a shard says of itself every few seconds."""

from __future__ import annotations

import json

import structlog

from jobs.contract import Cleaner, HeartbeatAnswer, HeartbeatRequest, class_queue, shard_queue
from myctobot.lib.rows import one_row
from shards.errors import UnknownShardKey
from shards.models import ShardState

log = structlog.get_logger(__name__)

# One statement: a thousand shards say this two hundred times a second.
_TAKE = """
    WITH before AS (SELECT id, state FROM shards_shard WHERE key_hash = %s FOR NO KEY UPDATE)
    UPDATE shards_shard AS shard SET report = %s, last_heartbeat_at = statement_timestamp(),
        state = CASE WHEN before.state IN ('requested', 'stopped') THEN 'ready' ELSE before.state END
    FROM before WHERE shard.id = before.id
    RETURNING shard.name, before.state, shard.state, shard.is_active, shard.capabilities,
        (SELECT name FROM shards_pool WHERE id = shard.pool_id)
"""


def heartbeat(key_hash: str, report: HeartbeatRequest) -> HeartbeatAnswer:
    """Store a shard's report and answer with its queues and orders.

    Args:
        key_hash: digest of the caller's shard key.
        report: validated.

    Raises:
        UnknownShardKey: it is no shard's.
    """
    row = one_row(_TAKE, [key_hash, json.dumps(Cleaner().clean(report))])
    if row is None:
        raise UnknownShardKey
    name, was, state, is_active, capabilities, pool = row
    if state != was:
        log.info("shard.state", shard=name, state=state, was=was)
    orders = [] if is_active and state != ShardState.DRAINING else ["drain"]
    return HeartbeatAnswer(shard=name, queues=[class_queue(capabilities, pool), shard_queue(name)], orders=orders)


def is_known(key_hash: str) -> bool:
    """Whether the digest is that of a shard's key."""
    return one_row("SELECT 1 FROM shards_shard WHERE key_hash = %s", [key_hash]) is not None
