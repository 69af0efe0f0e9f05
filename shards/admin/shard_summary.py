"""What the page of a shard shows beside its form: how it is, charts, what was done, what changed."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

from django.db.models import Q, QuerySet
from django.utils.safestring import SafeString

from myctobot.admin_site.widgets import ago, label
from myctobot.lib.clock import database_now
from myctobot.tenants.audited_admin import in_words
from myctobot.tenants.models import AuditEntry
from shards.admin.actions import DEEDS, under_way, why_not
from shards.admin.history import operation_label
from shards.health.rules import SILENT_AFTER
from shards.models.shard import Closure, Shard
from shards.monitoring.charts import Chart, chart
from shards.monitoring.sampling import series
from shards.operations.models import Operation

STATES: Final = {
    "requested": "", "provisioning": "info", "ready": "success", "suspect": "warning", "lost": "danger",
    "draining": "warning", "stopped": "", "gone": "",
}  # fmt: skip
SPANS: Final = {"1h": timedelta(hours=1), "6h": timedelta(hours=6), "24h": timedelta(days=1), "7d": timedelta(days=7)}
_FEW: Final = 10
# Of one chart; more cannot be told apart.
_POINTS: Final = 240


def state_label(shard: Shard) -> SafeString:
    """Its state as a coloured label; a spare is called so."""
    text = f"{shard.state}, spare" if shard.is_spare else shard.state
    return label(text, STATES.get(shard.state, ""), shard.state_reason)


def at_a_glance(shard: Shard) -> dict[str, Any]:
    """State, load and heartbeat, as of now."""
    report = shard.report
    silent = database_now() - shard.last_heartbeat_at if shard.last_heartbeat_at else None
    running = [str(name) for name in report.get("running", [])]
    used, total = report.get("memory_mb"), report.get("memory_total_mb")
    return {
        "shard": shard,
        "state_label": state_label(shard),
        "heartbeat": ago(silent),
        "is_silent": silent is not None and silent > SILENT_AFTER,
        "running": running,
        "slots": shard.usable_slots,
        "cpu_percent": report.get("cpu_percent"),
        "memory": f"{used} of {total} MB" if used is not None and total else None,
        "disk_free_gb": round(report["disk_free_mb"] / 1024, 1) if "disk_free_mb" in report else None,
        "versions": dict(report.get("versions") or {}),
        "version": report.get("version"),
        "closures": _closures(shard),
    }


def _closures(shard: Shard) -> QuerySet[Closure]:
    """What keeps jobs from it: its own drain, a pause of its class or of its pool."""
    of_it = Q(shard=shard) | Q(shard_class=shard.shard_class)
    if shard.pool_id is not None:
        of_it |= Q(pool=shard.pool_id)
    return Closure.objects.filter(of_it, reopened_at=None).select_related("pool")[:_FEW]


def buttons(shard: Shard, busy: Operation | None) -> list[dict[str, Any]]:
    """What can be done to it, and of what cannot: why."""
    hidden = {"activate"} if not shard.is_spare else set()
    hidden |= {"token"} if shard.provider else {name for name, deed in DEEDS.items() if deed.kind}
    return [
        {
            "name": name,
            "title": deed.title,
            "icon": deed.icon,
            "danger": deed.danger,
            "why_not": why_not(name, shard, busy),
        }
        for name, deed in DEEDS.items()
        if name not in hidden
    ]


def operations(shard: Shard) -> list[dict[str, Any]]:
    """The last operations, newest first."""
    return [{"row": row, "label": operation_label(row)} for row in shard.operations.order_by("-pk")[:_FEW]]


def live(shard: Shard) -> dict[str, Any]:
    """The part of the page that is fetched again and again while an operation runs."""
    busy = under_way(shard)
    return {**at_a_glance(shard), "busy": busy, "buttons": buttons(shard, busy), "operations": operations(shard)}


def past(shard: Shard) -> dict[str, Any]:
    """The last changes of state and entries of the audit log."""
    entries = AuditEntry.objects.filter(subject=f"shard/{shard.name}").order_by("-pk")
    told = [
        {"at": row.at, "actor": row.actor, "action": row.action, "words": in_words(row.details)}
        for row in entries[:_FEW]
    ]
    return {"changes": shard.state_changes.order_by("-pk")[:_FEW], "entries": told}


def charts(shard: Shard, span: str) -> list[Chart]:
    """CPU, memory, disk and jobs over the last hours or days."""
    samples = series(shard, database_now() - SPANS.get(span, SPANS["1h"]), _POINTS)

    def of(title: str, unit: str, field: str, top: float | None = None, scale: float = 1) -> Chart | None:
        return chart(title, unit, [(row.at, getattr(row, field) / scale) for row in samples], top)

    total_gb = max((row.memory_total_mb for row in samples), default=0) / 1024
    drawn = [
        of("CPU", " %", "cpu_percent", 100),
        of("Memory", " GB", "memory_mb", total_gb, 1024),
        of("Free disk", " GB", "disk_free_mb", None, 1024),
        of("Jobs at once", "", "running", max((row.slots for row in samples), default=1)),
    ]
    return [one for one in drawn if one is not None]
