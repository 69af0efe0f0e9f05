"""Taking in what a shard says of itself every few seconds."""

from __future__ import annotations

from typing import Any

import structlog
from django.db.models.functions import Now

from jobs.contract import Cleaner, HeartbeatAnswer
from shards.models import Shard, ShardState

log = structlog.get_logger(__name__)


def heartbeat(shard: Shard, report: dict[str, Any]) -> HeartbeatAnswer:
    """Store a shard's report and answer with its queues and orders.

    Args:
        shard: the caller.
        report: validated; see ``HeartbeatRequest``.
    """
    state = ShardState.READY if shard.state in (ShardState.REQUESTED, ShardState.STOPPED) else ShardState(shard.state)
    Shard.objects.filter(pk=shard.pk, state=shard.state).update(
        state=state, last_heartbeat_at=Now(), report=Cleaner().clean(report)
    )
    if state != shard.state:
        log.info("shard.state", shard=shard.name, state=state.value, was=shard.state)
    orders = [] if shard.is_active and state != ShardState.DRAINING else ["drain"]
    return HeartbeatAnswer(shard=shard.name, queues=shard.queues, orders=orders)
