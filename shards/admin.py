"""The admin's pages for shards, pools and assignments."""

from __future__ import annotations

from django.contrib import admin

from shards.models import Assignment, Pool, Shard


@admin.register(Pool)
class PoolAdmin(admin.ModelAdmin[Pool]):
    list_display = ["name", "description"]


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

    # The label explains the state in a form, and is too long for a column.
    @admin.display(description="state", ordering="state")
    def current_state(self, shard: Shard) -> str:
        return shard.state


@admin.register(Assignment)
class AssignmentAdmin(admin.ModelAdmin[Assignment]):
    list_display = ["tenant", "shard", "pool", "priority", "is_default"]
    list_filter = ["tenant"]
