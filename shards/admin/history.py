"""Read-only pages of operations, scaling decisions and suspensions."""

from __future__ import annotations

from typing import Final

from django.contrib import admin
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from myctobot.admin_site.widgets import Page, ReadOnly, label
from shards.autoscaling.models import ScalingDecision
from shards.models import Suspension
from shards.operations.models import Operation

_OPERATION: Final = {"queued": "info", "running": "info", "done": "success", "failed": "danger"}


def operation_label(operation: Operation) -> SafeString:
    """Return the state of an operation as a coloured label."""
    return label(operation.state, _OPERATION.get(operation.state, ""), operation.error[:300])


@admin.register(Operation)
class OperationAdmin(ReadOnly, Page[Operation]):
    """Pages of operations with their steps."""

    list_display = ["id", "shard", "kind", "state_text", "requested_by", "requested_at", "ended_at", "error"]
    list_filter = ["state", "kind"]
    search_fields = ["shard__name", "requested_by", "error"]
    list_select_related = ["shard"]
    ordering = ["-id"]
    list_per_page = 50
    fields = ["shard", "kind", "state_text", "error", "steps_text", "arguments", "requested_by", "requested_at",
              "started_at", "alive_at", "ended_at"]  # fmt: skip
    readonly_fields = ["state_text", "steps_text"]

    @admin.display(description="state", ordering="state")
    def state_text(self, operation: Operation) -> SafeString:
        return operation_label(operation)

    @admin.display(description="steps", empty_value="none yet")
    def steps_text(self, operation: Operation) -> SafeString | None:
        steps = [(str(step.get("at", ""))[11:23], step.get("text", "")) for step in operation.steps]
        rows = format_html_join("", "<li><code>{}</code> {}</li>", steps)
        return format_html('<ol class="leading-relaxed">{}</ol>', rows) if steps else None


@admin.register(ScalingDecision)
class ScalingDecisionAdmin(ReadOnly, Page[ScalingDecision]):
    """Pages of scaling decisions with their measures."""

    list_display = ["at", "pool", "change_text", "reason", "is_dry_run", "error"]
    list_filter = ["pool", "is_dry_run"]
    search_fields = ["reason", "error"]
    list_select_related = ["pool"]
    ordering = ["-id"]
    list_per_page = 50

    @admin.display(description="change", ordering="change")
    def change_text(self, decision: ScalingDecision) -> SafeString:
        return label(f"{decision.change:+d}", "success" if decision.change > 0 else "warning")


@admin.register(Suspension)
class SuspensionAdmin(ReadOnly, Page[Suspension]):
    """History of drains and pauses, which the pages of shards and pools, the API and ``manage.py jobs`` create."""

    list_display = [
        "__str__", "shard", "pool", "shard_class", "reason", "suspended_by", "suspended_at", "resumed_by", "resumed_at",
    ]  # fmt: skip
    list_filter = ["resumed_at"]
    search_fields = ["shard__name", "pool__name", "shard_class", "reason"]
    list_select_related = ["shard", "pool"]
    ordering = ["-id"]
    list_per_page = 50
