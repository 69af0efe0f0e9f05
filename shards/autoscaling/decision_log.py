"""Log of scaling decisions: every change of a pool, and once each reason that prevents a change."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import structlog
from django.db import transaction
from django.db.models import QuerySet
from django.db.models.functions import Now

from myctobot.tenants.audit import record as audit
from shards.autoscaling.models import ScalingDecision
from shards.autoscaling.pool_state import BY, RECENT
from shards.models import Pool
from shards.operations.models import Operation, OperationState

log = structlog.get_logger(__name__)

_RESUMED: Final = "resumed_by"
_MAX_FAILURES: Final = 50
# A decision is stored shortly after the operations that it requested.
_STORED_WITHIN: Final = timedelta(minutes=1)


def decisions_of(pool: Pool) -> QuerySet[ScalingDecision]:
    """Return a pool's decisions, the latest first: dry runs if the pool is set to dry run, real ones otherwise."""
    return ScalingDecision.objects.filter(pool=pool, is_dry_run=pool.scaling_dry_run).order_by("-pk")


def last_change(pool: Pool, sign: int) -> datetime | None:
    """Return when shards were last requested (sign 1) or released (sign -1)."""
    rows = decisions_of(pool)
    changes = rows.filter(change__gt=0) if sign > 0 else rows.filter(change__lt=0)
    return changes.values_list("at", flat=True).first()


def write(
    pool: Pool, change: int, reason: str, inputs: dict[str, Any], shards: Sequence[str] = (), error: str = ""
) -> ScalingDecision:
    """Store a decision with everything that it is based on."""
    row = ScalingDecision.objects.create(
        pool=pool,
        change=change,
        reason=reason[:500],
        inputs={"rules": pool.scaling_rules, **inputs},
        shards=list(shards),
        is_dry_run=pool.scaling_dry_run,
        error=error,
    )
    log.info("pool.scaled", pool=pool.name, change=change, reason=reason, dry_run=pool.scaling_dry_run, error=error)
    return row


def write_once(pool: Pool, kind: str, reason: str, inputs: dict[str, Any], error: str = "") -> bool:
    """Store what prevents a change, unless the last decision says the same; return whether it was stored.

    Args:
        kind: identifies the obstacle. Two reasons of one kind may differ in their numbers.
    """
    last = decisions_of(pool).first()
    if last is not None and last.change == 0 and last.inputs.get("held") == kind:
        return False
    write(pool, 0, reason, {**inputs, "held": kind}, error=error)
    return True


@transaction.atomic
def resume(pool: Pool, *, by: str) -> None:
    """Let a pool build again at once after failed builds."""
    write(pool, 0, f"Building resumed by {by}.", {_RESUMED: by})
    audit(by, "pool.scaling_resumed", f"pool/{pool.name}")


def resumed_at(pool: Pool) -> datetime | None:
    """Return when building was last resumed."""
    rows = ScalingDecision.objects.filter(pool=pool, inputs__has_key=_RESUMED)
    return rows.order_by("-pk").values_list("at", flat=True).first()


def record_failures(pool: Pool) -> None:
    """Copy the errors of failed operations to the decisions that requested them."""
    failed = Operation.objects.filter(shard__pool=pool, requested_by=BY, state=OperationState.FAILED)
    recent = failed.filter(requested_at__gt=Now() - RECENT).select_related("shard").order_by("-pk")
    for operation in recent[:_MAX_FAILURES]:
        name = operation.shard.name
        rows = decisions_of(pool).filter(shards__contains=[name], at__lte=operation.requested_at + _STORED_WITHIN)
        decision = rows.exclude(change=0).first()
        if decision is not None and not decision.error:
            decision.error = f"{name}: {operation.error or 'the operation failed'}"
            decision.save(update_fields=["error"])
