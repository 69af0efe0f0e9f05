"""Reader of the router's snapshot: six queries for any number of jobs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import datetime
from typing import Any, cast

from django.db.models import Count

from jobs.dispatch.routing import AssignmentView, RoutableShard, Snapshot
from jobs.models import Attempt
from jobs.models.states import AttemptState
from myctobot.contract.shards import class_queue, shard_class, shard_queue
from myctobot.lib.sql import fetch_one
from shards.health.rules import suspension_text, unhealthy_reason
from shards.models import Assignment, Pool, PoolMode, Shard, ShardState, Suspension

_Row = dict[str, Any]
_SHARD = (
    "pk", "name", "shard_class", "capabilities", "pool__name", "is_active", "state", "last_heartbeat_at",
    "max_concurrent_jobs", "report__slots", "pool__mode", "is_spare", "is_used",
    "report__sandbox_problem",
)  # fmt: skip


_SCALED = "SELECT 1 FROM shards_pool WHERE scaling_rules IS NOT NULL AND NOT scaling_dry_run LIMIT 1"


def load_snapshot(now: datetime) -> Snapshot:
    """Read shards, assignments, suspensions and load as of ``now`` (the database's clock)."""
    running = dict(
        Attempt.objects.filter(state=AttemptState.RUNNING, shard__isnull=False)
        .values_list("shard")
        .annotate(Count("pk"))
    )
    sent = Attempt.objects.filter(state=AttemptState.SENT).values_list("queue").annotate(n=Count("pk"))
    suspension_of = _suspensions()
    # Rows are cheaper than model instances, and a thousand shards are read every second.
    present = Shard.objects.filter(is_active=True).exclude(state=ShardState.GONE)
    shards = present.order_by("name").values(*_SHARD)
    views = [_routable_shard(row, running.get(row["pk"], 0), suspension_of, now) for row in shards.iterator()]
    return Snapshot(
        [*views, *_placeholder_shards({view.pool for view in views})],
        _assignments(),
        Counter(dict(sent)),
    )


def _placeholder_shards(pools: set[str | None]) -> list[RoutableShard]:
    """Return a placeholder shard for each autoscaled pool without shards, so that its jobs wait and are not refused."""
    # Most installations have no such pool, and this query costs a tenth of the ORM query below.
    if fetch_one(_SCALED, []) is None:
        return []
    scaled = Pool.objects.filter(scaling_rules__isnull=False, scaling_dry_run=False, template__isnull=False)
    return [
        RoutableShard(
            # Autoscaling never uses this name.
            name=f"{name}-0",
            shard_class=shard_class(capabilities, name),
            class_queue=class_queue(capabilities, name),
            own_queue=shard_queue(f"{name}-0"),
            capabilities=frozenset(capabilities),
            pool=name,
            slots=0,
            running=0,
            unhealthy="is built when jobs wait",
        )
        for name, capabilities in scaled.exclude(provider="").values_list("name", "template__capabilities")
        if name not in pools
    ]


def _assignments() -> dict[int, tuple[AssignmentView, ...]]:
    found: dict[int, tuple[AssignmentView, ...]] = {}
    rows = Assignment.objects.order_by("pk")
    for tenant_id, shard, pool, priority, default in rows.values_list(
        "tenant_id", "shard__name", "pool__name", "priority", "is_default"
    ):
        # Both are outer joins: an assignment refers to either a shard or a pool.
        view = AssignmentView(cast("str | None", shard), cast("str | None", pool), priority, default)
        found[tenant_id] = (*found.get(tenant_id, ()), view)
    return found


def _suspensions() -> Callable[[_Row], str | None]:
    """Return a function that says for a shard's row why the shard, its class or its pool is suspended."""
    by_shard: dict[int, str] = {}
    by_group: dict[str, str] = {}
    rows = Suspension.objects.filter(resumed_at=None)
    for shard_id, pool, name, by, at, reason in rows.values_list(
        "shard_id", "pool__name", "shard_class", "suspended_by", "suspended_at", "reason"
    ):
        if cast("int | None", shard_id) is not None:
            by_shard[shard_id] = suspension_text("draining", by, at, reason)
        else:
            group = f"pool {pool}" if pool else f"class {name}"
            by_group[group] = suspension_text(f"({group}) paused", by, at, reason)

    def suspension_of(row: _Row) -> str | None:
        of_class, of_pool = f"class {row['shard_class']}", f"pool {row['pool__name']}"
        return by_shard.get(row["pk"]) or by_group.get(of_class) or by_group.get(of_pool)

    return suspension_of


def _routable_shard(
    row: _Row, running: int, suspension_of: Callable[[_Row], str | None], now: datetime
) -> RoutableShard:
    is_ephemeral = row["pool__mode"] == PoolMode.EPHEMERAL
    unhealthy = unhealthy_reason(
        is_active=row["is_active"],
        state=row["state"],
        last_heartbeat_at=row["last_heartbeat_at"],
        now=now,
        sandbox_fails=bool(row["report__sandbox_problem"]),
    )
    if row["is_spare"]:
        unhealthy = unhealthy or "a warm spare"
    if is_ephemeral and row["is_used"]:
        # A used shard drains by itself, and counts as busy until its one job ends.
        unhealthy = None if running else "about to be re-created"
    suspension = suspension_of(row)
    maximum, reported = 1 if is_ephemeral else row["max_concurrent_jobs"], row["report__slots"]
    return RoutableShard(
        name=row["name"],
        shard_class=row["shard_class"],
        class_queue=f"cap.{row['shard_class']}",
        own_queue=shard_queue(row["name"]),
        capabilities=frozenset(row["capabilities"]),
        pool=row["pool__name"],
        # Same rule as ``Shard.usable_slots``.
        slots=maximum if reported is None else min(maximum, int(reported)),
        running=running,
        unhealthy=suspension or unhealthy,
        suspended=suspension is not None or unhealthy == "draining",
    )
