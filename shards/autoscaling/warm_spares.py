"""Warm spares: shards of a pool that are ready, and take no job before they are needed."""

from __future__ import annotations

import structlog
from django.db import transaction
from kombu import Exchange, Queue
from kombu.exceptions import OperationalError
from redis import RedisError

from myctobot.celery import app
from myctobot.contract.jobs import HEARTBEAT_EVERY_S
from myctobot.lib.sql import one_row
from shards.lifecycle.transitions import note
from shards.models.shard import Pool, Shard

log = structlog.get_logger(__name__)

# Compare-and-set: whoever is second finds another one, or none. One whose row is locked just now is passed over, which
# never waits for anybody; the next look comes within a second. What was silent for three heartbeats is no help.
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
    """Let one spare of a pool take jobs; None when there is none. However many ask at once, each gets another one.

    Args:
        reason: why, for operators.
        by: who wants it.
    """
    with transaction.atomic():
        row = one_row(_ACTIVATE, [pool.pk])
        if row is None:
            return None
        shard = Shard.objects.get(pk=row[0])
        note(shard, shard.state, shard.state, reason=f"a warm spare is needed: {reason}", by=by)
        transaction.on_commit(lambda: hint_takeover(shard.name), robust=True)
    log.info("spare.activated", shard=shard.name, pool=pool.name, reason=reason)
    return shard


def hint_takeover(shard_name: str) -> None:
    """Have the worker of a spare that was activated ask for its orders, and jobs that wait be given its slots, now.

    Beat asks for a round each second anyway.
    """
    hint_refresh(shard_name)
    control = Queue("control", exchange=Exchange("", type="direct"), routing_key="control", no_declare=True)
    try:
        app.send_task("jobs.dispatch_round", queue=control, retry=False)  # type: ignore[arg-type]  # a Queue will do
    except OperationalError as error:
        log.warning("broker.unreachable", wanted="dispatch round", shard=shard_name, error=str(error))


def hint_refresh(shard_name: str) -> None:
    """Have a shard's worker ask for its orders now; its next heartbeat, within seconds, does so anyway."""
    try:
        app.control.broadcast(
            "refresh",
            reply=False,
            # Its worker's whole name has that of its host, which nobody here knows.
            pattern=f"shard-{shard_name}@*",
            matcher="glob",  # type: ignore[arg-type]  # the stubs are wrong: the name goes over the wire
        )
    except (OperationalError, RedisError, OSError) as error:
        log.warning("broker.unreachable", wanted="refresh", shard=shard_name, error=str(error))
