"""The admin's pages for jobs: to look at, not to edit. Sealed secrets are on none of them."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from jobs.models import Attempt, Job


class ReadOnly:
    """Denies every change: a job's state moves by its own rules only."""

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class AttemptInline(ReadOnly, admin.TabularInline[Attempt, Job]):
    model = Attempt
    readonly_fields = [
        "number", "state", "shard", "queue", "sent_at", "claimed_at", "ended_at", "outcome", "error_code",
    ]  # fmt: skip
    fields = tuple(readonly_fields)


@admin.register(Job)
class JobAdmin(ReadOnly, admin.ModelAdmin[Job]):
    list_display = ["public_id", "tenant", "status", "phase", "priority", "attempt_number", "created_at", "finished_at"]
    list_filter = ["status", "tenant", "priority"]
    search_fields = ["public_id"]
    # Named one by one: a field that is added later, a secret perhaps, does not show by itself.
    fields = [
        "public_id", "tenant", "created_by", "api_key", "retry_of", "task", "context", "capabilities", "priority",
        "timeout_s", "max_turns", "callback_url", "status", "phase", "waiting_code", "waiting_reason", "not_before",
        "cancel_requested_at", "attempt_number", "max_attempts", "result", "error_code", "error_message",
        "created_at", "started_at", "finished_at",
    ]  # fmt: skip
    inlines = [AttemptInline]
