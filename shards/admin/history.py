"""Pages of what happened: to look at, never to change."""

from __future__ import annotations

from typing import Final

from django.contrib import admin
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from myctobot.admin_site.widgets import Page, ReadOnly, label
from shards.autoscaling.models import ScalingDecision
from shards.models.shard import Closure
from shards.operations.models import Operation

_OPERATION: Final = {"queued": "info", "running": "info", "done": "success", "failed": "danger"}


def operation_label(operation: Operation) -> SafeString:
    """The state of an operation as a coloured label."""
    return label(operation.state, _OPERATION.get(operation.state, ""), operation.error[:300])


@admin.register(Operation)
class OperationAdmin(ReadOnly, Page[Operation]):
    """Work on containers, with every step."""

    list_display = ["id", "shard", "kind", "state_shown", "requested_by", "requested_at", "ended_at", "error"]
    list_filter = ["state", "kind"]
    search_fields = ["shard__name", "requested_by", "error"]
    list_select_related = ["shard"]
    ordering = ["-id"]
    list_per_page = 50
    fields = ["shard", "kind", "state_shown", "error", "steps_shown", "arguments", "requested_by", "requested_at",
              "started_at", "alive_at", "ended_at"]  # fmt: skip
    readonly_fields = ["state_shown", "steps_shown"]

    @admin.display(description="state", ordering="state")
    def state_shown(self, operation: Operation) -> SafeString:
        return operation_label(operation)

    @admin.display(description="steps", empty_value="none yet")
    def steps_shown(self, operation: Operation) -> SafeString | None:
        steps = [(str(step.get("at", ""))[11:23], step.get("text", "")) for step in operation.steps]
        rows = format_html_join("", "<li><code>{}</code> {}</li>", steps)
        return format_html('<ol class="leading-relaxed">{}</ol>', rows) if steps else None


@admin.register(ScalingDecision)
class ScalingDecisionAdmin(ReadOnly, Page[ScalingDecision]):
    """What autoscaling decided, by which measures."""

    list_display = ["at", "pool", "change_shown", "reason", "is_dry_run", "error"]
    list_filter = ["pool", "is_dry_run"]
    search_fields = ["reason", "error"]
    list_select_related = ["pool"]
    ordering = ["-id"]
    list_per_page = 50

    @admin.display(description="change", ordering="change")
    def change_shown(self, decision: ScalingDecision) -> SafeString:
        return label(f"{decision.change:+d}", "success" if decision.change > 0 else "warning")


@admin.register(Closure)
class ClosureAdmin(ReadOnly, Page[Closure]):
    """The history of drains and pauses; the pages of shards and pools, the API and ``manage.py jobs`` make them."""

    list_display = [
        "__str__", "shard", "pool", "shard_class", "reason", "closed_by", "closed_at", "reopened_by", "reopened_at",
    ]  # fmt: skip
    list_filter = ["reopened_at"]
    search_fields = ["shard__name", "pool__name", "shard_class", "reason"]
    list_select_related = ["shard", "pool"]
    ordering = ["-id"]
    list_per_page = 50
