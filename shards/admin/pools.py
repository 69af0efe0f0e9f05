"""Pages of pools, templates and assignments."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest

from myctobot.admin_site.widgets import Inline, Select, TextInput
from myctobot.errors import InvalidRequest
from myctobot.tenants.audited_admin import AuditedPage
from shards.admin.bulk_actions import ReasonForm, pause_pools, resume_pools
from shards.autoscaling.rules import read_rules
from shards.inventory.mcp_servers import problems_of
from shards.models.shard import Assignment, Pool, Shard, ShardState, ShardTemplate
from shards.providers import registry

_RULES_HELP = (
    "Empty: nobody scales it. Else as in “Autoscaling rules” of docs/shards.md; its provider and its template say "
    "what is built."
)


def provider_choices(none: str) -> list[tuple[str, str]]:
    """The providers that are configured, after a choice of none."""
    return [("", none), *((name, name) for name in registry.names())]


# Django makes words of the names of fields, and does not know which are abbreviations.
_LABELS = {
    "mcp_servers": "MCP servers", "max_concurrent_jobs": "Slots", "is_active": "Active", "cpus": "CPUs",
    "memory_mb": "Memory, MB", "disk_mb": "Disk, MB", "shard_type": "Type", "scaling_dry_run": "Dry run",
    "resource_spec": "Resources",
}  # fmt: skip


def look_right(fields: dict[str, forms.Field]) -> None:
    """Give fields their labels, and text fields the height that fits what is written there."""
    for name, field in fields.items():
        field.label = _LABELS.get(name, field.label)
        if name in ("description", "capabilities"):
            field.widget = TextInput()
        elif isinstance(field.widget, forms.Textarea):
            field.widget.attrs["rows"] = 14 if name == "scaling_rules" else 6


class RulesField(forms.JSONField):
    """JSON that may be absent; an empty field says so, not the word null."""

    def prepare_value(self, value: Any) -> Any:
        return "" if value is None else super().prepare_value(value)


class PoolForm(forms.ModelForm[Pool]):
    """Reads the rules as autoscaling will read them, and says every mistake at their field."""

    class Meta:
        model = Pool
        fields = ["name", "description", "mode", "provider", "template", "scaling_rules", "scaling_dry_run"]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "scaling_rules" in self.fields:
            widget = self.fields["scaling_rules"].widget
            self.fields["scaling_rules"] = RulesField(required=False, help_text=_RULES_HELP, widget=widget)
        if "provider" in self.fields:
            self.fields["provider"] = choice_of(self.fields["provider"], provider_choices("Nobody"))
        look_right(self.fields)

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
                    self.add_error(name, "A pool that is scaled needs one, to make its shards.")
        return facts


class PoolAssignmentInline(Inline[Assignment, Pool]):
    model = Assignment
    fields = ["tenant", "priority", "is_default"]
    extra = 0
    verbose_name = "tenant that may use the pool"
    verbose_name_plural = "tenants that may use the pool; the lower the priority's number, the sooner it is chosen"


@admin.register(Pool)
class PoolAdmin(AuditedPage[Pool]):
    """A border of trust: its mode, who may use it, and how it is scaled."""

    form = PoolForm
    list_display = ["name", "description", "mode_shown", "living", "provider", "template", "is_scaled"]
    list_filter = ["mode", "provider"]
    search_fields = ["name", "description"]
    list_select_related = ["template"]
    list_per_page = 50
    inlines = [PoolAssignmentInline]
    actions = [pause_pools, resume_pools]
    action_form = ReasonForm
    fieldsets = [
        (None, {"fields": ["name", "description", "mode"]}),
        (
            "Scaling",
            {
                "fields": ["provider", "template", "scaling_rules", "scaling_dry_run"],
                "description": "With a dry run decisions are written down, and nothing is built or removed.",
            },
        ),
    ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Pool]:
        living = Count("shards", filter=~Q(shards__state=ShardState.GONE))
        return super().get_queryset(request).annotate(living=living)

    def get_readonly_fields(self, request: HttpRequest, obj: Pool | None = None) -> list[str]:
        # Queues, workers and broker users go by it.
        return ["name"] if obj else []

    @admin.display(description="mode", ordering="mode")
    def mode_shown(self, pool: Pool) -> str:
        return pool.mode

    @admin.display(description="shards", ordering="living")
    def living(self, pool: Any) -> int:
        return int(pool.living)

    @admin.display(description="scaled")
    def is_scaled(self, pool: Pool) -> str:
        if pool.scaling_rules is None:
            return "no"
        return "dry run" if pool.scaling_dry_run else "yes"


def choice_of(field: forms.Field, choices: list[tuple[str, str]]) -> forms.Field:
    """The same field as a choice, with the panel's own look."""
    return forms.ChoiceField(
        choices=choices,
        required=field.required,
        label=field.label,
        help_text=field.help_text,
        widget=Select,
    )


class TemplateForm(forms.ModelForm[ShardTemplate]):
    """Checks MCP servers as a shard would."""

    class Meta:
        model = ShardTemplate
        fields = [
            "name", "description", "shard_type", "capabilities", "mcp_servers", "image", "cpus", "memory_mb", "disk_mb",
            "processes", "max_concurrent_jobs",
        ]  # fmt: skip

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        look_right(self.fields)

    def clean_mcp_servers(self) -> Any:
        servers = self.cleaned_data["mcp_servers"] or {}
        if problems := problems_of(servers):
            raise forms.ValidationError(problems)
        return servers


@admin.register(ShardTemplate)
class ShardTemplateAdmin(AuditedPage[ShardTemplate]):
    """What new shards are made from; those that exist keep what they were made with."""

    form = TemplateForm
    list_display = ["name", "description", "capabilities_shown", "image", "resources", "slots"]
    list_filter = ["shard_type"]
    search_fields = ["name", "description"]
    ordering = ["name"]
    list_per_page = 50
    untold = ("mcp_servers",)
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
    def capabilities_shown(self, template: ShardTemplate) -> str:
        return ", ".join(template.capabilities)


@admin.register(Assignment)
class AssignmentAdmin(AuditedPage[Assignment]):
    """Which tenant may use which shard or pool; their order is the order of fallbacks."""

    list_display = ["tenant", "place", "priority", "is_default", "turn"]
    list_filter = ["tenant", "is_default"]
    search_fields = ["tenant__slug", "shard__name", "pool__name"]
    list_select_related = ["tenant", "shard", "pool"]
    # As the router takes them.
    ordering = ["tenant__slug", "-is_default", "priority"]
    list_per_page = 50
    autocomplete_fields = ["tenant", "shard", "pool"]

    @admin.display(description="may use")
    def place(self, assignment: Assignment) -> str:
        return f"shard {assignment.shard}" if assignment.shard_id else f"pool {assignment.pool}"

    @admin.display(description="is tried")
    def turn(self, assignment: Assignment) -> str:
        return "first" if assignment.is_default else f"by priority {assignment.priority}"


class ShardAssignmentInline(Inline[Assignment, Shard]):
    model = Assignment
    fields = ["tenant", "priority", "is_default"]
    extra = 0
    verbose_name = "tenant that may use this shard"
    verbose_name_plural = "tenants that may use this shard; the lower the priority's number, the sooner it is chosen"
