"""Read-only admin pages of jobs. They never show encrypted secrets."""

from __future__ import annotations

from django.contrib import admin

from jobs.models import Attempt, Job
from jobs.queue.waiting import wait_status
from myctobot.admin_site.widgets import Inline, Page, ReadOnly


class AttemptInline(ReadOnly, Inline[Attempt, Job]):
    model = Attempt
    readonly_fields = [
        "number", "state", "shard", "queue", "sent_at", "claimed_at", "ended_at", "outcome", "error_code",
        "error_message", "proof",
    ]  # fmt: skip
    fields = tuple(readonly_fields)


@admin.register(Job)
class JobAdmin(ReadOnly, Page[Job]):
    list_display = ["public_id", "tenant", "status", "phase", "priority", "attempt_number", "created_at", "finished_at"]
    list_filter = ["status", "hold", "tenant", "priority"]
    search_fields = ["public_id"]
    # Listed explicitly, so that a field that is added later, such as a secret, is not shown by default.
    fieldsets = [
        (
            None,
            {"fields": ["public_id", "tenant", "created_by", "api_key", "retry_of", "status", "phase", "why_it_waits"]},
        ),
        ("Request", {"fields": ["task", "context", "capabilities", "priority", "callback_url"]}),
        (
            "Limits",
            {
                "fields": [
                    "not_before", "queue_timeout_s", "timeout_s", "no_output_timeout_s", "max_turns", "max_attempts",
                    "retry_on", "concurrency_key", "concurrency_limit",
                ]
            },
        ),
        ("Queue", {"fields": ["hold", "ready_at", "queue_deadline", "waiting_code", "waiting_reason"]}),
        (
            "Result",
            {
                "fields": [
                    "cancel_requested_at", "attempt_number", "result", "error_code", "error_message", "created_at",
                    "started_at", "finished_at",
                ]
            },
        ),
    ]  # fmt: skip
    readonly_fields = ["why_it_waits"]
    inlines = [AttemptInline]

    @admin.display(description="Why it waits", empty_value="-")
    def why_it_waits(self, job: Job) -> str | None:
        waiting = wait_status(job, estimate=False)
        return f"{waiting.reason} ({waiting.code})" if waiting else None
