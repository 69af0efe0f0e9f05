"""Shards of ephemeral pools are made anew after each job, so that no job finds what another one left.

The claim itself drains the shard and marks it as used, in one transaction, and a used one is refused every other claim.
So nothing here is urgent for safety: it only brings the shard back, with a warm spare in its place meanwhile.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

import structlog
from django.db import connection, transaction

from jobs.models.job import Attempt
from myctobot.errors import MyctobotError
from myctobot.lib.clock import database_now
from shards.autoscaling.pool_state import RECYCLE_TRIES, RECYCLING, failed_recycles
from shards.autoscaling.warm_spares import activate
from shards.lifecycle.transitions import move
from shards.models.shard import Shard, ShardState
from shards.monitoring.alerts import alert_once
from shards.operations.models import OperationKind
from shards.operations.requests import request

log = structlog.get_logger(__name__)

# After the first try that failed; doubled by each that follows.
_FIRST_PAUSE: Final = timedelta(seconds=30)
# It begins with the pools: where none is ephemeral this is over at once. One that an operator drained is left to them.
_USED: Final = """
    SELECT shard.id FROM shards_pool AS pool JOIN shards_shard AS shard ON shard.pool_id = pool.id
    WHERE pool.mode = 'ephemeral' AND shard.is_active
        AND (shard.is_used AND shard.state IN ('ready', 'suspect', 'lost', 'draining') OR shard.state = 'provisioning')
        AND NOT EXISTS (SELECT FROM jobs_attempt WHERE shard_id = shard.id AND ended_at IS NULL)
        AND NOT EXISTS (SELECT FROM shards_operation WHERE shard_id = shard.id AND state IN ('queued', 'running'))
        AND NOT EXISTS (SELECT FROM shards_closure WHERE shard_id = shard.id AND reopened_at IS NULL)
    ORDER BY shard.id LIMIT 100
"""


def recycle_used() -> list[str]:
    """Have every shard made anew that had its job; returns their names. Safe to run often, and twice at once."""
    with connection.cursor() as cursor:
        cursor.execute(_USED)
        found = [shard_id for (shard_id,) in cursor.fetchall()]
    now = database_now()
    return [shard.name for shard_id in found if (shard := _recycle(shard_id, now)) is not None]


@transaction.atomic
def _recycle(shard_id: int, now: datetime) -> Shard | None:
    # The lock that claims take. None of them begins here any more; one that began before is seen below.
    shard = Shard.objects.select_for_update(of=("self",), no_key=True).select_related("pool").get(pk=shard_id)
    # Made anew since it was found, by a round that was quicker.
    if not shard.is_used and shard.state != ShardState.PROVISIONING:
        return None
    if Attempt.objects.filter(shard=shard, ended_at=None).exists():
        return None
    failed = failed_recycles(shard.pk)
    if not shard.provider_ref or len(failed) >= RECYCLE_TRIES:
        _give_up(shard, failed)
        return None
    if failed and now < failed[0] + _FIRST_PAUSE * 2 ** (len(failed) - 1):
        return None
    try:
        with transaction.atomic():
            _ask(shard)
    except MyctobotError as error:
        log.info("shard.not_recycled", shard=shard.name, why=error.message)
        return None
    return shard


def _ask(shard: Shard) -> None:
    if shard.state == ShardState.READY:
        move(shard, ShardState.DRAINING, reason="had its job; it is made anew", by=RECYCLING)
    # The job is over: what its worker still reports is an ending runner, or one that was given up.
    request(shard, OperationKind.RECYCLE, by=RECYCLING, force=True)
    if shard.pool is None or shard.is_spare:
        return
    # They change places: as many take jobs as before, and as many stand by when it comes back.
    if activate(shard.pool, reason=f"{shard.name} is made anew", by=RECYCLING) is not None:
        Shard.objects.filter(pk=shard.pk).update(is_spare=True)


def _give_up(shard: Shard, failed: list[datetime]) -> None:
    why = f"it failed {len(failed)} times" if failed else "it has no container that a provider could make anew"
    alert_once(
        "shard.not_recycled",
        f"Shard {shard.name} stays out",
        f"Shard {shard.name} had its job and is not made anew: {why}. It takes no other job before. See to what "
        "failed, then ask for a recycle, or destroy it.",
        key=f"shard.not_recycled {shard.name} {shard.state_since:%Y-%m-%dT%H:%M:%S}",
    )
