"""The admin's pages for shards, pools and assignments."""

from __future__ import annotations

from django.contrib import admin
from django.http import HttpRequest

from shards.admin_actions import ReasonForm, drain, pause_classes, pause_pools, resume, resume_classes, resume_pools
from shards.models import Assignment, Closure, Pool, Shard


@admin.register(Pool)
class PoolAdmin(admin.ModelAdmin[Pool]):
    list_display = ["name", "description"]
    actions = [pause_pools, resume_pools]
    action_form = ReasonForm


class AssignmentInline(admin.TabularInline[Assignment, Shard]):
    model = Assignment
    fields = ["tenant", "priority", "is_default"]
    extra = 0


@admin.register(Shard)
class ShardAdmin(admin.ModelAdmin[Shard]):
    list_display = [
        "name",
        "shard_type",
        "shard_class",
        "current_state",
        "is_active",
        "max_concurrent_jobs",
        "last_heartbeat_at",
    ]
    list_filter = ["state", "shard_type", "pool", "is_active"]
    search_fields = ["name", "description"]
    readonly_fields = ["shard_class", "last_heartbeat_at", "report", "created_at"]
    inlines = [AssignmentInline]
    actions = [drain, resume, pause_classes, resume_classes]
    action_form = ReasonForm

    # The label explains the state in a form, and is too long for a column.
    @admin.display(description="state", ordering="state")
    def current_state(self, shard: Shard) -> str:
        return shard.state


@admin.register(Assignment)
class AssignmentAdmin(admin.ModelAdmin[Assignment]):
    list_display = ["tenant", "shard", "pool", "priority", "is_default"]
    list_filter = ["tenant"]


@admin.register(Closure)
class ClosureAdmin(admin.ModelAdmin[Closure]):
    """The history of drains and pauses; the pages of shards and pools, and ``manage.py jobs``, make and end them."""

    list_display = [
        "__str__",
        "shard",
        "pool",
        "shard_class",
        "reason",
        "closed_by",
        "closed_at",
        "reopened_by",
        "reopened_at",
    ]
    list_filter = ["reopened_at"]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Closure | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Closure | None = None) -> bool:
        return False
