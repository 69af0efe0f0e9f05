"""Taking in what a shard says of itself every few seconds."""

from __future__ import annotations

import json
from typing import Final

import structlog
from django.db.models import Q

from myctobot.contract.jobs import Cleaner, HeartbeatAnswer, HeartbeatRequest, class_queue, shard_queue
from myctobot.lib.sql import one_row
from shards.errors import UnknownShardKey, WrongState
from shards.health.rules import SILENT_AFTER, may_take_jobs
from shards.lifecycle.transitions import move
from shards.models.shard import Closure, Shard, ShardState

log = structlog.get_logger(__name__)

_SILENT_S: Final = SILENT_AFTER.total_seconds()
# One statement: a thousand shards say this two hundred times a second. What it does not touch is as it was, so no index
# of the table is written; silence and return are found by ``history.watch``. The last word is whether a shard wakes: it
# was never heard of before, or was stopped so long ago that this is no last word of the worker that was stopped.
_TAKE = f"""
    WITH before AS (
        SELECT id, last_heartbeat_at, state, state_since FROM shards_shard WHERE key_hash = %s FOR NO KEY UPDATE
    )
    UPDATE shards_shard AS shard SET report = %s, last_heartbeat_at = statement_timestamp(),
        steady_since = CASE
            WHEN before.last_heartbeat_at > statement_timestamp() - interval '{_SILENT_S} s'
            THEN COALESCE(shard.steady_since, statement_timestamp()) ELSE statement_timestamp() END
    FROM before WHERE shard.id = before.id
    RETURNING shard.id, shard.name, shard.state, shard.is_active, shard.is_spare, shard.capabilities,
        (SELECT name FROM shards_pool WHERE id = shard.pool_id),
        shard.state = 'requested' OR shard.state = 'stopped' AND (before.last_heartbeat_at IS NULL
            OR before.state_since < statement_timestamp() - interval '{_SILENT_S} s')
"""  # noqa: S608  # only our own constant


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
    pk, name, state, is_active, is_spare, capabilities, pool, wakes = row
    if wakes:
        state = _wake(Shard(pk=pk, name=name, state=state))
    orders = [] if may_take_jobs(is_active=is_active, is_spare=is_spare, state=state) else ["drain"]
    return HeartbeatAnswer(shard=name, queues=[class_queue(capabilities, pool), shard_queue(name)], orders=orders)


def _wake(shard: Shard) -> str:
    """Move a shard that nobody expected to hear of; its next heartbeat tries again what fails here."""
    drained = Closure.objects.filter(shard=shard, reopened_at=None).exists()
    try:
        to = ShardState.DRAINING if drained else ShardState.READY
        move(shard, to, reason="heard of", only_if=Q(state=shard.state))
    except WrongState as error:
        # An operator or an operation was faster.
        log.info("shard.not_woken", shard=shard.name, why=error.message)
    return shard.state


def is_known(key_hash: str) -> bool:
    """Whether the digest is that of a shard's key."""
    return one_row("SELECT 1 FROM shards_shard WHERE key_hash = %s", [key_hash]) is not None
