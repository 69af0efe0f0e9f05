"""Writes down what was decided: what changes something each time, what keeps something from changing once."""

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
from shards.models.shard import Pool
from shards.operations.models import Operation, OperationState

log = structlog.get_logger(__name__)

_RESUMED: Final = "resumed_by"
_MOST_FAILURES: Final = 50
# A decision is stored just after what was asked for because of it.
_SOON: Final = timedelta(minutes=1)


def decisions_of(pool: Pool) -> QuerySet[ScalingDecision]:
    """What was decided of a pool, for real or as a dry run, as it is set now; the latest first."""
    return ScalingDecision.objects.filter(pool=pool, is_dry_run=pool.scaling_dry_run).order_by("-pk")


def last_change(pool: Pool, sign: int) -> datetime | None:
    """When shards were last asked for (1), or let go (-1)."""
    rows = decisions_of(pool)
    changes = rows.filter(change__gt=0) if sign > 0 else rows.filter(change__lt=0)
    return changes.values_list("at", flat=True).first()


def write(
    pool: Pool, change: int, reason: str, inputs: dict[str, Any], shards: Sequence[str] = (), error: str = ""
) -> ScalingDecision:
    """Store a decision with all that it was made from."""
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
    """Store what keeps a pool from changing, unless that is what was stored last; returns whether it was stored.

    Args:
        kind: what is the same thing again, whatever numbers its reason has.
    """
    last = decisions_of(pool).first()
    if last is not None and last.change == 0 and last.inputs.get("held") == kind:
        return False
    write(pool, 0, reason, {**inputs, "held": kind}, error=error)
    return True


@transaction.atomic
def resume(pool: Pool, *, by: str) -> None:
    """Let a pool build again at once after builds that failed."""
    write(pool, 0, f"Building goes on, by {by}.", {_RESUMED: by})
    audit(by, "pool.scaling_resumed", f"pool/{pool.name}")


def resumed_at(pool: Pool) -> datetime | None:
    """When somebody last let it build again."""
    rows = ScalingDecision.objects.filter(pool=pool, inputs__has_key=_RESUMED)
    return rows.order_by("-pk").values_list("at", flat=True).first()


def note_failures(pool: Pool) -> None:
    """Write on each decision what became of it, where that is a failure."""
    failed = Operation.objects.filter(shard__pool=pool, requested_by=BY, state=OperationState.FAILED)
    recent = failed.filter(requested_at__gt=Now() - RECENT).select_related("shard").order_by("-pk")
    for operation in recent[:_MOST_FAILURES]:
        name = operation.shard.name
        rows = decisions_of(pool).filter(shards__contains=[name], at__lte=operation.requested_at + _SOON)
        decision = rows.exclude(change=0).first()
        if decision is not None and not decision.error:
            decision.error = f"{name}: {operation.error or 'it failed'}"
            decision.save(update_fields=["error"])
