"""Data of a shard's page besides its form: state, load, charts, operations and history."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

from django.db.models import Q, QuerySet
from django.utils.safestring import SafeString

from myctobot.admin_site.widgets import ago, label
from myctobot.lib.clock import database_now
from myctobot.tenants.audited_admin import in_words
from myctobot.tenants.models import AuditEntry
from shards.admin.actions import ACTIONS, blocked_reason, live_operation
from shards.admin.history import operation_label
from shards.models import Shard, Suspension
from shards.models.resources import resources_of
from shards.models.timeouts import SILENT_AFTER
from shards.monitoring.charts import ShardChart, chart
from shards.monitoring.sampling import series
from shards.operations.models import Operation
from shards.providers import registry

STATES: Final = {
    "requested": "", "provisioning": "info", "ready": "success", "suspect": "warning", "lost": "danger",
    "draining": "warning", "stopped": "", "gone": "",
}  # fmt: skip
NETWORKS: Final = {"job": "each job has its own", "shard": "shared by the shard's jobs"}
SPANS: Final = {"1h": timedelta(hours=1), "6h": timedelta(hours=6), "24h": timedelta(days=1), "7d": timedelta(days=7)}
_MAX_ROWS: Final = 10
# Points of a chart; the eye cannot distinguish more.
_POINTS: Final = 240


def state_label(shard: Shard) -> SafeString:
    """Return the state as a coloured label, with a mark for spares."""
    text = f"{shard.state}, spare" if shard.is_spare else shard.state
    return label(text, STATES.get(shard.state, ""), shard.state_reason)


def at_a_glance(shard: Shard) -> dict[str, Any]:
    """Return the present state, load and heartbeat."""
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
        "network": NETWORKS.get(str(report.get("network"))),
        "limits": _limits(shard),
        "suspensions": _suspensions(shard),
    }


def _limits(shard: Shard) -> dict[str, str]:
    """Return how the shard limits its agents, by its report."""
    found = {name: how.replace("_", " ") for name, how in dict(shard.report.get("limits") or {}).items()}
    has_provider = shard.provider in registry.names()
    if found.get("disk") == "watchdog" and has_provider and registry.provider(shard.provider).features.limits:
        # Containers have no loop devices, so their jobs have no images.
        found["disk"] = f"watchdog, within the {resources_of(shard).disk_mb:,} MB of the container"
    return found


def _suspensions(shard: Shard) -> QuerySet[Suspension]:
    """Return the open drain of the shard and the open pauses of its class and pool."""
    applies = Q(shard=shard) | Q(shard_class=shard.shard_class)
    if shard.pool_id is not None:
        applies |= Q(pool=shard.pool_id)
    return Suspension.objects.filter(applies, resumed_at=None).select_related("pool")[:_MAX_ROWS]


def buttons(shard: Shard, busy: Operation | None) -> list[dict[str, Any]]:
    """Return the buttons of the actions, each with the reason if it is not possible now."""
    hidden = {"activate"} if not shard.is_spare else set()
    hidden |= {"token"} if shard.provider else {name for name, action in ACTIONS.items() if action.kind}
    return [
        {
            "name": name,
            "title": action.title,
            "icon": action.icon,
            "danger": action.danger,
            "blocked_reason": blocked_reason(name, shard, busy),
        }
        for name, action in ACTIONS.items()
        if name not in hidden
    ]


def operations(shard: Shard) -> list[dict[str, Any]]:
    """Return the latest operations, newest first."""
    return [{"row": row, "label": operation_label(row)} for row in shard.operations.order_by("-pk")[:_MAX_ROWS]]


def live(shard: Shard) -> dict[str, Any]:
    """Return the part of the page that is refreshed while an operation runs."""
    busy = live_operation(shard)
    return {**at_a_glance(shard), "busy": busy, "buttons": buttons(shard, busy), "operations": operations(shard)}


def past(shard: Shard) -> dict[str, Any]:
    """Return the latest state changes and audit entries."""
    entries = AuditEntry.objects.filter(subject=f"shard/{shard.name}").order_by("-pk")
    shown = [
        {"at": row.at, "actor": row.actor, "action": row.action, "words": in_words(row.details)}
        for row in entries[:_MAX_ROWS]
    ]
    return {"changes": shard.state_changes.order_by("-pk")[:_MAX_ROWS], "entries": shown}


def charts(shard: Shard, span: str) -> list[ShardChart]:
    """Return charts of CPU, memory, disk and jobs over a span of time."""
    samples = series(shard, database_now() - SPANS.get(span, SPANS["1h"]), _POINTS)

    def of(title: str, unit: str, field: str, top: float | None = None, scale: float = 1) -> ShardChart | None:
        return chart(title, unit, [(row.at, getattr(row, field) / scale) for row in samples], top)

    total_gb = max((row.memory_total_mb for row in samples), default=0) / 1024
    drawn = [
        of("CPU", " %", "cpu_percent", 100),
        of("Memory", " GB", "memory_mb", total_gb, 1024),
        of("Free disk", " GB", "disk_free_mb", None, 1024),
        of("Running jobs", "", "running", max((row.slots for row in samples), default=1)),
    ]
    return [one for one in drawn if one is not None]
