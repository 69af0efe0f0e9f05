"""Job: a request for agent work, its state and its result."""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models.functions import Now

from jobs.models.lanes import lane_of
from jobs.models.states import Hold
from myctobot.contract.jobs import TERMINAL, JobStatus
from myctobot.contract.work import OnFailure
from myctobot.lib.ids import public_id
from myctobot.tenants.models import ApiKey, Tenant

# Figures of an ``agent.usage`` event, each counted from the start of its attempt.
USAGE_FIELDS = ("turns", "input_tokens", "output_tokens", "cost_usd")

new_job_id = partial(public_id, "job")


def default_retry_on() -> list[str]:
    """Return the failures that are retried by default: those that the job did not cause."""
    return ["infrastructure"]


class Priority(models.IntegerChoices):
    """Priority classes; the lower number goes first."""

    HIGH = 10, "high"
    NORMAL = 20, "normal"
    BATCH = 30, "batch"


class Job(models.Model):
    """One piece of agent work."""

    # A ``PositiveIntegerField`` adds a CHECK, and PostgreSQL parses each CHECK at every write of a row. The API checks
    # the numbers.

    # Without ``unique=True``, which adds an index for LIKE: a row is written about eight times, and each index costs as
    # much as the row.
    public_id = models.CharField(max_length=40, default=new_job_id, editable=False)
    tenant = models.ForeignKey(Tenant, on_delete=models.PROTECT, related_name="jobs", db_index=False)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, blank=True, db_index=False
    )
    api_key = models.ForeignKey(ApiKey, on_delete=models.SET_NULL, null=True, blank=True, db_index=False)
    retry_of = models.ForeignKey(
        "self", on_delete=models.SET_NULL, null=True, blank=True, related_name="retries", db_index=False
    )

    # As submitted, without the secrets: ``encrypted_secrets`` keeps those until the job ends.
    task = models.JSONField()
    context = models.JSONField(default=dict, blank=True)
    capabilities = ArrayField(models.CharField(max_length=40))
    priority = models.SmallIntegerField(choices=Priority, default=Priority.NORMAL)
    # Limits of one attempt, of its agent's silence, and of the wait for a shard; null means no limit.
    timeout_s = models.IntegerField()
    no_output_timeout_s = models.IntegerField(null=True, blank=True)
    queue_timeout_s = models.IntegerField(null=True, blank=True)
    max_turns = models.IntegerField()
    # Maximum number of the tenant's jobs with this key that have slots at once.
    concurrency_key = models.CharField(max_length=300, blank=True)
    concurrency_limit = models.SmallIntegerField(default=1)
    # Handling of the work of an attempt that does not end well.
    on_failure = models.CharField(
        max_length=10,
        choices=[(handling.value, handling.value) for handling in OnFailure],
        default=OnFailure.KEEP.value,
        db_default=OnFailure.KEEP.value,
    )
    callback_url = models.URLField(max_length=2000, blank=True)
    idempotency_key = models.CharField(max_length=200, null=True, blank=True)
    request_digest = models.CharField(max_length=64, blank=True, editable=False)
    encrypted_secrets = models.TextField(null=True, editable=False, db_column="sealed")
    # Names of secrets that came with the request and are deleted at the end: a retry must send them again.
    inline_secrets = ArrayField(models.CharField(max_length=40), default=list, editable=False)
    # Maps a use to the name of a stored secret, such as {"repo_token": "github"}; a retry looks it up again.
    named_secrets = models.JSONField(default=dict, editable=False)

    status = models.CharField(max_length=10, choices=[(s.value, s.value) for s in JobStatus], default=JobStatus.QUEUED)
    phase = models.CharField(max_length=12, blank=True)
    waiting_code = models.CharField(max_length=40, blank=True)
    waiting_reason = models.TextField(blank=True)
    not_before = models.DateTimeField(null=True, blank=True)
    cancel_requested_at = models.DateTimeField(null=True, blank=True)

    # While queued: why it is not dispatched, since when it could be, and when its wait ends at the latest.
    hold = models.CharField(max_length=4, blank=True, choices=[(h.value, h.name.lower()) for h in Hold], editable=False)
    ready_at = models.DateTimeField(db_default=Now(), editable=False)
    queue_deadline = models.DateTimeField(null=True, blank=True, editable=False)
    # The capabilities as one string; jobs with the same string wait in one lane.
    lane = models.CharField(max_length=400, default="", editable=False)

    attempt_number = models.IntegerField(default=0)
    max_attempts = models.SmallIntegerField(default=2)
    # Causes of failures that are retried; see ``jobs.lifecycle.retry_policy``.
    retry_on = ArrayField(models.CharField(max_length=20), default=default_retry_on)
    # Number of the next event.
    next_seq = models.BigIntegerField(default=1)
    # Bytes of the stored events, and the last number of the log's beginning, which is never dropped.
    log_bytes = models.BigIntegerField(default=0, editable=False)
    log_head_seq = models.BigIntegerField(default=0, editable=False)
    # The job has ended and its log is still stored.
    has_log = models.BooleanField(default=False, editable=False)

    # Work that the next attempt pushes instead of running the agent.
    work = models.ForeignKey(
        "KeptWork",
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="jobs",
        db_index=False,
        editable=False,
    )
    # The job was started to push that work, so no agent ever runs for it.
    is_push = models.BooleanField(default=False, db_default=False, editable=False)

    result = models.JSONField(null=True, blank=True)
    error_code = models.CharField(max_length=60, blank=True)
    error_message = models.TextField(blank=True)
    error_retryable = models.BooleanField(default=False)

    created_at = models.DateTimeField(db_default=Now(), editable=False)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["public_id"], name="public_id_of_one_job"),
            models.UniqueConstraint(
                fields=["tenant", "idempotency_key"],
                condition=models.Q(idempotency_key__isnull=False),
                name="idempotency_key_once_a_tenant",
            ),
            models.CheckConstraint(
                condition=~models.Q(status__in=sorted(s.value for s in TERMINAL))
                | models.Q(encrypted_secrets__isnull=True),
                name="ended_jobs_hold_no_secret",
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["tenant", "-id"], name="jobs_of_a_tenant"),
            # Partial indexes, so that their size depends on the waiting and running jobs, not on all jobs.
            models.Index(
                fields=["tenant", "status"], condition=models.Q(status__in=["queued", "running"]), name="live_jobs"
            ),
            # The API's filter by status must not read all jobs of a tenant to find a few.
            models.Index(
                fields=["tenant", "status", "-id"],
                condition=models.Q(status__in=["failed", "cancelled"]),
                name="jobs_that_did_not_complete",
            ),
            # A dispatch round skips from lane to lane in this index.
            models.Index(
                fields=["lane", "priority", "tenant", "id"],
                condition=models.Q(status="queued", hold=Hold.NONE),
                name="ready_jobs",
            ),
            models.Index(
                fields=["tenant"], condition=models.Q(status="queued", hold=Hold.NONE), name="tenants_in_line"
            ),
            models.Index(
                fields=["ready_at"], condition=models.Q(status="queued", hold=Hold.DELAYED), name="parked_jobs"
            ),
            models.Index(
                fields=["tenant", "concurrency_key", "priority", "id"],
                condition=models.Q(status="queued", hold=Hold.CONCURRENCY),
                name="jobs_behind_a_key",
            ),
            models.Index(
                fields=["tenant", "concurrency_key"],
                condition=models.Q(status="running") | models.Q(status="queued", hold=Hold.DISPATCHED),
                name="jobs_that_hold_a_key",
            ),
            models.Index(
                fields=["queue_deadline"],
                condition=models.Q(status="queued", queue_deadline__isnull=False),
                name="jobs_by_queue_deadline",
            ),
            # Retention finds old jobs without reading the others.
            models.Index(
                fields=["finished_at"], condition=models.Q(finished_at__isnull=False), name="jobs_by_their_end"
            ),
            # Not on the byte count, which each batch of events changes: heap-only updates require that no column of
            # an index or its condition changes.
            models.Index(fields=["finished_at"], condition=models.Q(has_log=True), name="jobs_with_a_log"),
            # Used only when a user, a key, a job or kept work is removed.
            *(
                models.Index(fields=[name], condition=models.Q(**{f"{name}__isnull": False}), name=f"jobs_by_{name}")
                for name in ("created_by", "api_key", "retry_of", "work")
            ),
        ]

    def __str__(self) -> str:
        return self.public_id

    def save(self, *args: Any, **kwargs: Any) -> None:
        self.enter_lane()
        super().save(*args, **kwargs)

    def enter_lane(self) -> None:
        """Sort the capabilities and derive the lane from them."""
        self.capabilities = sorted(set(self.capabilities))
        self.lane = lane_of(self.capabilities)

    @property
    def binding(self) -> str:
        """Return the context that the job's encrypted secrets are bound to."""
        return f"job:{self.public_id}"

    @property
    def is_over(self) -> bool:
        return self.status in TERMINAL

    @property
    def usage(self) -> dict[str, Any] | None:
        """Return turns, tokens and cost of all attempts together; None before the first figures."""
        known = [attempt.usage for attempt in self.attempts.all() if attempt.usage]
        names = [name for name in USAGE_FIELDS if any(usage.get(name) is not None for usage in known)]
        return {name: sum(usage.get(name) or 0 for usage in known) for name in names} or None
