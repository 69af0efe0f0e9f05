"""Reads what is known of a pool's shards and of the builds of it."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from django.db.models import Exists, OuterRef, QuerySet
from django.db.models.functions import Now

from shards.autoscaling.build_backoff import Build
from shards.autoscaling.observation import Member
from shards.models.shard import Closure, Pool, PoolMode, Shard, ShardState
from shards.operations.models import LIVE_OPERATIONS, Operation, OperationKind, OperationState

# As which autoscaling, and the making anew after a job, stand in every log.
BY: Final = "autoscaling"
RECYCLING: Final = "recycling"
# So often in a row it is tried to make a shard anew; then somebody has to look.
RECYCLE_TRIES: Final = 3
# What failed longer ago is history.
RECENT: Final = timedelta(days=1)
_MOST_BUILDS: Final = 50


def members_of(pool: Pool) -> list[Member]:
    """All shards of a pool that are not gone."""
    worked_on = Operation.objects.filter(shard=OuterRef("pk"), state__in=LIVE_OPERATIONS)
    closed = Closure.objects.filter(shard=OuterRef("pk"), reopened_at=None)
    rows = Shard.objects.filter(pool=pool).exclude(state=ShardState.GONE).order_by("pk")
    is_ephemeral = pool.mode == PoolMode.EPHEMERAL
    return [
        Member(
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
            is_worked_on=shard.works,
            is_closed=shard.is_closed,
            is_given_up=is_ephemeral and not shard.works and _is_given_up(shard),
        )
        for shard in rows.annotate(works=Exists(worked_on), is_closed=Exists(closed))
    ]


def slots_of_new(pool: Pool) -> int:
    """How many jobs a new shard of a pool runs at once."""
    return 1 if pool.template is None or pool.mode == PoolMode.EPHEMERAL else pool.template.max_concurrent_jobs


def _is_given_up(shard: Shard) -> bool:
    must_be_made = shard.is_used or shard.state == ShardState.PROVISIONING
    return must_be_made and len(failed_recycles(shard.pk)) >= RECYCLE_TRIES


def failed_recycles(shard_id: int) -> list[datetime]:
    """When it failed to make a shard anew, the latest first, since something else was done to it with success."""
    ended = Operation.objects.filter(shard=shard_id, ended_at__isnull=False).order_by("-pk")
    found: list[datetime] = []
    for kind, state, at in ended.values_list("kind", "state", "ended_at")[:RECYCLE_TRIES]:
        if kind != OperationKind.RECYCLE or state != OperationState.FAILED or at is None:
            break
        found.append(at)
    return found


def builds_of(pool: Pool) -> QuerySet[Operation]:
    """Recent builds that autoscaling asked for, the latest first."""
    return Operation.objects.filter(
        shard__pool=pool, kind=OperationKind.PROVISION, requested_by=BY, requested_at__gt=Now() - RECENT
    ).order_by("-pk")


def ended_builds(pool: Pool) -> list[Build]:
    """Those that have ended, the latest first."""
    ended = builds_of(pool).filter(ended_at__isnull=False).order_by("-ended_at", "-pk")
    return [
        Build(at, (error or "It failed.") if state == OperationState.FAILED else "")
        for at, state, error in ended.values_list("ended_at", "state", "error")[:_MOST_BUILDS]
        if at is not None
    ]


def builds_under_way(pool: Pool) -> int:
    """How many have not ended."""
    return builds_of(pool).filter(state__in=LIVE_OPERATIONS).count()
