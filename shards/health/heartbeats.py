"""Heartbeats: store a shard's report and answer with its queues and orders."""

from __future__ import annotations

import json
from contextlib import AbstractContextManager, nullcontext
from typing import Final

import structlog
from django.db import transaction
from django.db.models import Q

from myctobot.contract.redaction import Redactor
from myctobot.contract.shards import BrokerProblem, HeartbeatAnswer, HeartbeatRequest, class_queue, shard_queue
from myctobot.lib.sql import fetch_one
from shards.errors import UnknownShardKey, WrongState
from shards.health.rules import may_take_jobs, sandbox_failure
from shards.lifecycle.transitions import transition
from shards.models import Shard, ShardState, Suspension
from shards.models.timeouts import SILENT_AFTER
from shards.monitoring.broker_alerts import alert_refused_by_broker

log = structlog.get_logger(__name__)

# The broker user of any other shard may be gone.
_WORKING: Final = (ShardState.READY, ShardState.SUSPECT, ShardState.LOST, ShardState.DRAINING)
_SILENT_S: Final = SILENT_AFTER.total_seconds()
# One statement, because a thousand shards send two hundred heartbeats a second.
#
# It changes no indexed column, so it writes no index. ``shards.health.monitor`` finds silent and returning shards.
#
# The column before the last is true for a new shard, and for one that was stopped so long ago that a new
# worker reports.
#
# The last column is true if the report before named no refusal of the broker.
_STORE = f"""
    WITH before AS (
        SELECT id, last_heartbeat_at, state, state_since, report FROM shards_shard WHERE key_hash = %s FOR NO KEY UPDATE
    )
    UPDATE shards_shard AS shard SET report = %s, last_heartbeat_at = statement_timestamp(),
        steady_since = CASE
            WHEN before.last_heartbeat_at > statement_timestamp() - interval '{_SILENT_S} s'
            THEN COALESCE(shard.steady_since, statement_timestamp()) ELSE statement_timestamp() END
    FROM before WHERE shard.id = before.id
    RETURNING shard.id, shard.name, shard.state, shard.is_active, shard.is_spare, shard.capabilities,
        (SELECT name FROM shards_pool WHERE id = shard.pool_id),
        shard.state = 'requested' OR shard.state = 'stopped' AND (before.last_heartbeat_at IS NULL
            OR before.state_since < statement_timestamp() - interval '{_SILENT_S} s'),
        before.report -> 'broker_problem' IS NULL
"""  # noqa: S608  # only our own constant


def heartbeat(key_hash: str, report: HeartbeatRequest) -> HeartbeatAnswer:
    """Store a shard's report and answer with its queues and orders.

    Args:
        key_hash: digest of the caller's shard key.
        report: the validated report.

    Raises:
        UnknownShardKey: no shard has this key.
    """
    refusal = report.get("broker_problem", "")
    # Few reports need a transaction; it stores the alert together with the report.
    together: AbstractContextManager[object] = transaction.atomic() if refusal else nullcontext()
    with together:
        row = fetch_one(_STORE, [key_hash, json.dumps(Redactor().redact(report))])
        if row is None:
            raise UnknownShardKey
        pk, name, state, is_active, is_spare, capabilities, pool, wakes, broker_was_right = row
        if refusal and broker_was_right and is_active and state in _WORKING:
            alert_refused_by_broker(name, BrokerProblem(refusal))
    if wakes:
        state = _wake(Shard(pk=pk, name=name, state=state))
    problem = report.get("sandbox_problem", "")
    if problem and state == ShardState.READY:
        state = _suspect(Shard(pk=pk, name=name, state=state), problem)
    takes_jobs = may_take_jobs(is_active=is_active, is_spare=is_spare, state=state) and not problem
    orders = [] if takes_jobs else ["drain"]
    return HeartbeatAnswer(shard=name, queues=[class_queue(capabilities, pool), shard_queue(name)], orders=orders)


def _wake(shard: Shard) -> str:
    """Move a new or stopped shard that reports; if this fails, its next heartbeat tries again."""
    drained = Suspension.objects.filter(shard=shard, resumed_at=None).exists()
    try:
        to = ShardState.DRAINING if drained else ShardState.READY
        transition(shard, to, reason="first heartbeat", expected=Q(state=shard.state))
    except WrongState as error:
        # An operator or an operation was faster.
        log.info("shard.move_refused", shard=shard.name, reason=error.message)
    return shard.state


def _suspect(shard: Shard, problem: str) -> str:
    """Move a shard whose sandbox fails; ``shards.health.rules`` lets it return when the problem has ended."""
    try:
        transition(shard, ShardState.SUSPECT, reason=sandbox_failure(problem), expected=Q(state=shard.state))
    except WrongState as error:
        # An operator or an operation was faster.
        log.info("shard.move_refused", shard=shard.name, reason=error.message)
    return shard.state


def is_known(key_hash: str) -> bool:
    """Tell whether the digest belongs to a shard's key."""
    return fetch_one("SELECT 1 FROM shards_shard WHERE key_hash = %s", [key_hash]) is not None
