"""Warm spares: ready shards that take no job until they are activated."""

from __future__ import annotations

import structlog
from django.db import transaction

from myctobot.contract.limits import HEARTBEAT_EVERY_S
from myctobot.lib.sql import fetch_one
from shards.lifecycle.transitions import record_transition
from shards.models import Pool, Shard
from shards.remote_control import notify_activation

log = structlog.get_logger(__name__)

# Two callers never get the same spare, and SKIP LOCKED avoids waiting for row locks.
# A spare that was silent for three heartbeats is skipped.
_ACTIVATE = f"""
    UPDATE shards_shard SET is_spare = false WHERE id = (
        SELECT shard.id FROM shards_shard AS shard JOIN shards_pool AS pool ON pool.id = shard.pool_id
        WHERE pool.id = %s AND shard.is_spare AND shard.is_active AND shard.state = 'ready'
            AND shard.last_heartbeat_at > statement_timestamp() - interval '{3 * HEARTBEAT_EVERY_S} seconds'
            AND NOT (shard.is_used AND pool.mode = 'ephemeral')
        ORDER BY shard.state_since, shard.id LIMIT 1 FOR NO KEY UPDATE OF shard SKIP LOCKED
    )
    RETURNING id
"""  # noqa: S608  # only our own constants


def activate(pool: Pool, *, reason: str, by: str = "autoscaling") -> Shard | None:
    """Let one spare of a pool take jobs; return None if there is none. Concurrent callers get different spares.

    Args:
        reason: for operators.
        by: actor for the history.
    """
    with transaction.atomic():
        row = fetch_one(_ACTIVATE, [pool.pk])
        if row is None:
            return None
        shard = Shard.objects.get(pk=row[0])
        record_transition(shard, shard.state, shard.state, reason=f"Warm spare activated: {reason}", by=by)
        transaction.on_commit(lambda: notify_activation(shard.name), robust=True)
    log.info("spare.activated", shard=shard.name, pool=pool.name, reason=reason)
    return shard
