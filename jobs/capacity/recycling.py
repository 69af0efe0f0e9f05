"""Recycling: shards of ephemeral pools are re-created after each job, so that no job finds data of another one.

The claim drains the shard and marks it as used in one transaction, and every later claim of a used shard is refused.
Recycling is therefore not urgent for safety. It brings the shard back, and a warm spare replaces it in the meantime.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

import structlog
from django.db import connection, transaction

from jobs.models import Attempt
from myctobot.errors import MyctobotError
from myctobot.lib.clock import database_now
from shards.autoscaling.pool_state import RECYCLE_TRIES, RECYCLING, recycle_failures
from shards.autoscaling.warm_spares import activate
from shards.lifecycle.transitions import transition
from shards.models import Shard, ShardState
from shards.monitoring.alerts import alert_once
from shards.operations.models import OperationKind
from shards.operations.requests import request

log = structlog.get_logger(__name__)

# Pause after the first failure; each further failure doubles it.
_FIRST_PAUSE: Final = timedelta(seconds=30)
# Starts from the pools, so that it is cheap without ephemeral ones. A shard that an operator drained is left alone.
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
    """Re-create every shard whose job has ended; return their names. Safe to call often and concurrently."""
    with connection.cursor() as cursor:
        cursor.execute(_USED)
        found = [shard_id for (shard_id,) in cursor.fetchall()]
    now = database_now()
    return [shard.name for shard_id in found if (shard := _recycle(shard_id, now)) is not None]


@transaction.atomic
def _recycle(shard_id: int, now: datetime) -> Shard | None:
    # The lock that claims take. A used shard gets no new claim, and an earlier one is visible below.
    shard = Shard.objects.select_for_update(of=("self",), no_key=True).select_related("pool").get(pk=shard_id)
    # A concurrent call has re-created it already.
    if not shard.is_used and shard.state != ShardState.PROVISIONING:
        return None
    if Attempt.objects.filter(shard=shard, ended_at=None).exists():
        return None
    failed = recycle_failures(shard.pk)
    if not shard.provider_ref or len(failed) >= RECYCLE_TRIES:
        _report_failure(shard, failed)
        return None
    if failed and now < failed[0] + _FIRST_PAUSE * 2 ** (len(failed) - 1):
        return None
    try:
        with transaction.atomic():
            _request_recycle(shard)
    except MyctobotError as error:
        log.info("shard.not_recycled", shard=shard.name, why=error.message)
        return None
    return shard


def _request_recycle(shard: Shard) -> None:
    if shard.state == ShardState.READY:
        transition(shard, ShardState.DRAINING, reason="its job has ended; it is re-created", by=RECYCLING)
    # Force, because the worker may still report a runner: one that is just ending, or one of an invalidated attempt.
    request(shard, OperationKind.RECYCLE, by=RECYCLING, force=True)
    if shard.pool is None or shard.is_spare:
        return
    # Swap it with a spare, so that as many shards take jobs as before.
    if activate(shard.pool, reason=f"{shard.name} is re-created", by=RECYCLING) is not None:
        Shard.objects.filter(pk=shard.pk).update(is_spare=True)


def _report_failure(shard: Shard, failed: list[datetime]) -> None:
    why = f"it failed {len(failed)} times" if failed else "it has no container that a provider could re-create"
    alert_once(
        "shard.not_recycled",
        f"Shard {shard.name} takes no jobs",
        f"Shard {shard.name} had its job and was not re-created: {why}. It takes no other job until then. Fix the "
        "cause, then request a recycle, or destroy the shard.",
        key=f"shard.not_recycled {shard.name} {shard.state_since:%Y-%m-%dT%H:%M:%S}",
    )
