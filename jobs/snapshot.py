"""Reads the router's snapshot from the database: four queries, whatever the number of jobs."""

from __future__ import annotations

from collections import Counter
from datetime import datetime

from django.db.models import Count, Q

from jobs.models import Attempt
from jobs.routing import AssignmentView, ShardView, Snapshot
from jobs.states import AttemptState
from shards.health import why_not_healthy
from shards.models import Assignment, Shard


def load_snapshot(now: datetime) -> Snapshot:
    """Read shards, assignments and load as of ``now`` (the database's clock)."""
    shards = (
        Shard.objects.filter(is_active=True)
        .select_related("pool")
        .annotate(running=Count("attempts", filter=Q(attempts__state=AttemptState.RUNNING)))
        .order_by("name")
    )
    assignments: dict[int, tuple[AssignmentView, ...]] = {}
    for row in Assignment.objects.select_related("shard", "pool"):
        view = AssignmentView(
            row.shard.name if row.shard else None, row.pool.name if row.pool else None, row.priority, row.is_default
        )
        assignments[row.tenant_id] = (*assignments.get(row.tenant_id, ()), view)
    sent = Attempt.objects.filter(state=AttemptState.SENT).values_list("queue").annotate(n=Count("pk"))
    return Snapshot(
        shards=tuple(_view(shard, shard.running, now) for shard in shards),
        assignments=assignments,
        sent=Counter(dict(sent)),
    )


def _view(shard: Shard, running: int, now: datetime) -> ShardView:
    class_queue, own_queue = shard.queues
    return ShardView(
        name=shard.name,
        shard_class=shard.shard_class,
        class_queue=class_queue,
        own_queue=own_queue,
        capabilities=frozenset(shard.capabilities),
        pool=shard.pool.name if shard.pool else None,
        slots=shard.usable_slots,
        running=running,
        unhealthy=why_not_healthy(
            is_active=shard.is_active, state=shard.state, last_heartbeat_at=shard.last_heartbeat_at, now=now
        ),
    )
