"""Admin pages of pools, templates and assignments."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest

from myctobot.admin_site.widgets import Inline, Select, TextInput
from myctobot.errors import InvalidRequest
from myctobot.tenants.audited_admin import AuditedModelAdmin
from shards.admin.bulk_actions import BulkReasonForm, pause_pools, resume_pools
from shards.autoscaling.rules import read_rules
from shards.inventory.mcp_servers import problems_of
from shards.models import Assignment, Pool, Shard, ShardState, ShardTemplate
from shards.providers import registry

_RULES_HELP = (
    "Empty: no autoscaling. See docs/autoscaling.md. The provider and the template define the shards that are built."
)


def provider_choices(none_label: str) -> list[tuple[str, str]]:
    """Return the configured providers, after a choice of none."""
    return [("", none_label), *((name, name) for name in registry.names())]


# Labels of fields whose names Django cannot turn into good labels.
_LABELS = {
    "mcp_servers": "MCP servers", "max_concurrent_jobs": "Slots", "is_active": "Active", "cpus": "CPUs",
    "memory_mb": "Memory, MB", "disk_mb": "Disk, MB", "shard_type": "Type", "scaling_dry_run": "Dry run",
    "resource_spec": "Resources",
}  # fmt: skip


def style_fields(fields: dict[str, forms.Field]) -> None:
    """Set the labels of fields and the height of text fields."""
    for name, field in fields.items():
        field.label = _LABELS.get(name, field.label)
        if name in ("description", "capabilities"):
            field.widget = TextInput()
        elif isinstance(field.widget, forms.Textarea):
            field.widget.attrs["rows"] = 14 if name == "scaling_rules" else 6


class RulesField(forms.JSONField):
    """JSON field that shows a missing value as empty text instead of null."""

    def prepare_value(self, value: Any) -> Any:
        return "" if value is None else super().prepare_value(value)


class PoolForm(forms.ModelForm[Pool]):
    """Form of a pool that checks its rules with the reader that autoscaling uses."""

    class Meta:
        model = Pool
        fields = ["name", "description", "mode", "provider", "template", "scaling_rules", "scaling_dry_run"]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "scaling_rules" in self.fields:
            widget = self.fields["scaling_rules"].widget
            self.fields["scaling_rules"] = RulesField(required=False, help_text=_RULES_HELP, widget=widget)
        if "provider" in self.fields:
            self.fields["provider"] = choice_of(self.fields["provider"], provider_choices("None"))
        style_fields(self.fields)

    def clean_scaling_rules(self) -> Any:
        rules = self.cleaned_data["scaling_rules"]
        if rules is None:
            return None
        try:
            read_rules(rules)
        except InvalidRequest as error:
            problems = [f"{name}: {problem}" for name, found in error.fields.items() for problem in found]
            raise forms.ValidationError(problems) from error
        return rules

    def clean(self) -> dict[str, Any]:
        facts = super().clean() or {}
        if facts.get("scaling_rules") is not None:
            for name in ("provider", "template"):
                if not facts.get(name) and name not in self.errors:
                    self.add_error(name, "Required for autoscaling, which builds shards from it.")
        return facts


class PoolAssignmentInline(Inline[Assignment, Pool]):
    model = Assignment
    fields = ["tenant", "priority", "is_default"]
    extra = 0
    verbose_name = "tenant that may use the pool"
    verbose_name_plural = "tenants that may use the pool (lowest priority number first)"


@admin.register(Pool)
class PoolAdmin(AuditedModelAdmin[Pool]):
    """Pages of pools: mode, tenants and autoscaling."""

    form = PoolForm
    list_display = ["name", "description", "mode_text", "shard_count", "provider", "template", "is_scaled"]
    list_filter = ["mode", "provider"]
    search_fields = ["name", "description"]
    list_select_related = ["template"]
    list_per_page = 50
    inlines = [PoolAssignmentInline]
    actions = [pause_pools, resume_pools]
    action_form = BulkReasonForm
    fieldsets = [
        (None, {"fields": ["name", "description", "mode"]}),
        (
            "Scaling",
            {
                "fields": ["provider", "template", "scaling_rules", "scaling_dry_run"],
                "description": "A dry run logs decisions but builds and removes nothing.",
            },
        ),
    ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Pool]:
        shard_count = Count("shards", filter=~Q(shards__state=ShardState.GONE))
        return super().get_queryset(request).annotate(shard_count=shard_count)

    def get_readonly_fields(self, request: HttpRequest, obj: Pool | None = None) -> list[str]:
        # Queues, workers and broker users are named after the pool.
        return ["name"] if obj else []

    @admin.display(description="mode", ordering="mode")
    def mode_text(self, pool: Pool) -> str:
        return pool.mode

    @admin.display(description="shards", ordering="shard_count")
    def shard_count(self, pool: Any) -> int:
        return int(pool.shard_count)

    @admin.display(description="scaled")
    def is_scaled(self, pool: Pool) -> str:
        if pool.scaling_rules is None:
            return "no"
        return "dry run" if pool.scaling_dry_run else "yes"


def choice_of(field: forms.Field, choices: list[tuple[str, str]]) -> forms.Field:
    """Return the field as a choice with the panel's widget."""
    return forms.ChoiceField(
        choices=choices,
        required=field.required,
        label=field.label,
        help_text=field.help_text,
        widget=Select,
    )


class TemplateForm(forms.ModelForm[ShardTemplate]):
    """Form of a template that checks MCP servers as a shard would."""

    class Meta:
        model = ShardTemplate
        fields = [
            "name", "description", "shard_type", "capabilities", "mcp_servers", "image", "cpus", "memory_mb", "disk_mb",
            "processes", "max_concurrent_jobs",
        ]  # fmt: skip

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        style_fields(self.fields)

    def clean_mcp_servers(self) -> Any:
        servers = self.cleaned_data["mcp_servers"] or {}
        if problems := problems_of(servers):
            raise forms.ValidationError(problems)
        return servers


@admin.register(ShardTemplate)
class ShardTemplateAdmin(AuditedModelAdmin[ShardTemplate]):
    """Pages of templates; a change applies to new shards only."""

    form = TemplateForm
    list_display = ["name", "description", "capabilities_text", "image", "resources", "slots"]
    list_filter = ["shard_type"]
    search_fields = ["name", "description"]
    ordering = ["name"]
    list_per_page = 50
    redacted_fields = ("mcp_servers",)
    fieldsets = [
        (None, {"fields": ["name", "description", "shard_type", "capabilities", "mcp_servers", "max_concurrent_jobs"]}),
        ("Container", {"fields": ["image", "cpus", "memory_mb", "disk_mb", "processes"]}),
    ]

    @admin.display(description="resources")
    def resources(self, template: ShardTemplate) -> str:
        return f"{template.cpus:g} CPU, {template.memory_mb} MB, {template.disk_mb // 1024} GB disk"

    @admin.display(description="slots", ordering="max_concurrent_jobs")
    def slots(self, template: ShardTemplate) -> int:
        return template.max_concurrent_jobs

    @admin.display(description="capabilities")
    def capabilities_text(self, template: ShardTemplate) -> str:
        return ", ".join(template.capabilities)


@admin.register(Assignment)
class AssignmentAdmin(AuditedModelAdmin[Assignment]):
    """Pages of assignments, in the order in which the router tries them."""

    list_display = ["tenant", "target", "priority", "is_default", "order"]
    list_filter = ["tenant", "is_default"]
    search_fields = ["tenant__slug", "shard__name", "pool__name"]
    list_select_related = ["tenant", "shard", "pool"]
    # The router uses the same order.
    ordering = ["tenant__slug", "-is_default", "priority"]
    list_per_page = 50
    autocomplete_fields = ["tenant", "shard", "pool"]

    @admin.display(description="may use")
    def target(self, assignment: Assignment) -> str:
        return f"shard {assignment.shard}" if assignment.shard_id else f"pool {assignment.pool}"

    @admin.display(description="order")
    def order(self, assignment: Assignment) -> str:
        return "first" if assignment.is_default else f"by priority {assignment.priority}"


class ShardAssignmentInline(Inline[Assignment, Shard]):
    model = Assignment
    fields = ["tenant", "priority", "is_default"]
    extra = 0
    verbose_name = "tenant that may use this shard"
    verbose_name_plural = "tenants that may use this shard (lowest priority number first)"
