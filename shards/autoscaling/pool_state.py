"""Reads a pool's shards and builds from the database."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from django.db.models import Exists, OuterRef, QuerySet
from django.db.models.functions import Now

from shards.autoscaling.build_backoff import Build
from shards.autoscaling.observation import PoolMember
from shards.models import Pool, PoolMode, Shard, ShardState, Suspension
from shards.operations.models import LIVE_OPERATIONS, Operation, OperationKind, OperationState

# Actor names of autoscaling and recycling in every log.
BY: Final = "autoscaling"
RECYCLING: Final = "recycling"
# Recycling a shard is tried this often in a row. Then an operator has to repair it.
RECYCLE_TRIES: Final = 3
# Older operations are ignored.
RECENT: Final = timedelta(days=1)
_MAX_BUILDS: Final = 50


def members_of(pool: Pool) -> list[PoolMember]:
    """Return all shards of a pool that are not gone."""
    live = Operation.objects.filter(shard=OuterRef("pk"), state__in=LIVE_OPERATIONS)
    suspended = Suspension.objects.filter(shard=OuterRef("pk"), resumed_at=None)
    rows = Shard.objects.filter(pool=pool).exclude(state=ShardState.GONE).order_by("pk")
    is_ephemeral = pool.mode == PoolMode.EPHEMERAL
    return [
        PoolMember(
            pk=shard.pk,
            name=shard.name,
            shard_type=shard.shard_type,
            state=shard.state,
            state_since=shard.state_since,
            is_active=shard.is_active,
            is_used=shard.is_used,
            slots=1 if is_ephemeral else shard.usable_slots,
            last_heartbeat_at=shard.last_heartbeat_at,
            has_container=bool(shard.provider_ref),
            is_ephemeral=is_ephemeral,
            has_operation=shard.has_operation,
            is_suspended=shard.is_suspended,
            recycle_failed=is_ephemeral and not shard.has_operation and _recycle_failed(shard),
        )
        for shard in rows.annotate(has_operation=Exists(live), is_suspended=Exists(suspended))
    ]


def slots_of_new(pool: Pool) -> int:
    """Return how many jobs a new shard of a pool runs at once."""
    return 1 if pool.template is None or pool.mode == PoolMode.EPHEMERAL else pool.template.max_concurrent_jobs


def _recycle_failed(shard: Shard) -> bool:
    needs_recycling = shard.is_used or shard.state == ShardState.PROVISIONING
    return needs_recycling and len(recycle_failures(shard.pk)) >= RECYCLE_TRIES


def recycle_failures(shard_id: int) -> list[datetime]:
    """Return the times of a shard's latest failed recycles, the latest first, until any other operation."""
    ended = Operation.objects.filter(shard=shard_id, ended_at__isnull=False).order_by("-pk")
    found: list[datetime] = []
    for kind, state, at in ended.values_list("kind", "state", "ended_at")[:RECYCLE_TRIES]:
        if kind != OperationKind.RECYCLE or state != OperationState.FAILED or at is None:
            break
        found.append(at)
    return found


def builds_of(pool: Pool) -> QuerySet[Operation]:
    """Return the recent builds that autoscaling requested, the latest first."""
    return Operation.objects.filter(
        shard__pool=pool, kind=OperationKind.PROVISION, requested_by=BY, requested_at__gt=Now() - RECENT
    ).order_by("-pk")


def ended_builds(pool: Pool) -> list[Build]:
    """Return the recent builds that have ended, the latest first."""
    ended = builds_of(pool).filter(ended_at__isnull=False).order_by("-ended_at", "-pk")
    return [
        Build(at, (error or "The build failed.") if state == OperationState.FAILED else "")
        for at, state, error in ended.values_list("ended_at", "state", "error")[:_MAX_BUILDS]
        if at is not None
    ]


def builds_under_way(pool: Pool) -> int:
    """Return the number of recent builds that have not ended."""
    return builds_of(pool).filter(state__in=LIVE_OPERATIONS).count()
