"""What is asked for: jobs, their attempts and their events."""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models.functions import Now

from jobs.dispatch.routing import lane_of
from jobs.models.states import LIVE_ATTEMPTS, AttemptState, Hold
from myctobot.contract.jobs import TERMINAL, JobStatus
from myctobot.lib.ids import public_id
from myctobot.tenants.models import ApiKey, Tenant
from shards.models.shard import Shard

# What an ``agent.usage`` event counts, each since the start of its attempt.
USAGE_FIELDS = ("turns", "input_tokens", "output_tokens", "cost_usd")

new_job_id = partial(public_id, "job")


def default_retry_on() -> list[str]:
    """What was not the job's own doing is tried again; an agent that failed is not, unless asked for."""
    return ["infrastructure"]


class Priority(models.IntegerChoices):
    """Priority classes; the lower number goes first."""

    HIGH = 10, "high"
    NORMAL = 20, "normal"
    BATCH = 30, "batch"


class Job(models.Model):
    """One piece of agent work."""

    # A row is written some eight times in its life, and each index that it concerns costs as much as the row: there
    # are no more of them than somebody looks with (unique=True, for one, would add another for LIKE).
    public_id = models.CharField(max_length=40, default=new_job_id, editable=False)
    tenant = models.ForeignKey(Tenant, on_delete=models.PROTECT, related_name="jobs", db_index=False)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, blank=True, db_index=False
    )
    api_key = models.ForeignKey(ApiKey, on_delete=models.SET_NULL, null=True, blank=True, db_index=False)
    retry_of = models.ForeignKey(
        "self", on_delete=models.SET_NULL, null=True, blank=True, related_name="retries", db_index=False
    )

    # As the tenant wrote it, less the secrets: those are in ``sealed`` until the job ends.
    task = models.JSONField()
    context = models.JSONField(default=dict, blank=True)
    capabilities = ArrayField(models.CharField(max_length=40))
    priority = models.PositiveSmallIntegerField(choices=Priority, default=Priority.NORMAL)
    # Three bounds: of one attempt, of its agent's silence, of the wait for a shard. Null: without bound.
    timeout_s = models.PositiveIntegerField()
    no_output_timeout_s = models.PositiveIntegerField(null=True, blank=True)
    queue_timeout_s = models.PositiveIntegerField(null=True, blank=True)
    max_turns = models.PositiveIntegerField()
    # At most so many of the tenant's jobs with this key are with shards at once.
    concurrency_key = models.CharField(max_length=300, blank=True)
    concurrency_limit = models.PositiveSmallIntegerField(default=1)
    callback_url = models.URLField(max_length=2000, blank=True)
    idempotency_key = models.CharField(max_length=200, null=True, blank=True)
    request_digest = models.CharField(max_length=64, blank=True, editable=False)
    sealed = models.TextField(null=True, editable=False)
    # Names of the secrets that came with the request itself and end with the job: a retry needs them again.
    inline_secrets = ArrayField(models.CharField(max_length=40), default=list, editable=False)
    # Which stored secret serves as which, such as {"repo_token": "github"}: names only, so a retry finds them.
    named_secrets = models.JSONField(default=dict, editable=False)

    status = models.CharField(max_length=10, choices=[(s.value, s.value) for s in JobStatus], default=JobStatus.QUEUED)
    phase = models.CharField(max_length=12, blank=True)
    waiting_code = models.CharField(max_length=40, blank=True)
    waiting_reason = models.TextField(blank=True)
    not_before = models.DateTimeField(null=True, blank=True)
    cancel_requested_at = models.DateTimeField(null=True, blank=True)

    # While queued: what keeps it from being dispatched, since when it could be, and until when it waits at most.
    hold = models.CharField(max_length=4, blank=True, choices=[(h.value, h.name.lower()) for h in Hold], editable=False)
    ready_at = models.DateTimeField(db_default=Now(), editable=False)
    queue_deadline = models.DateTimeField(null=True, blank=True, editable=False)
    # The capabilities as one word: jobs of a tenant with the same word and priority wait in one lane.
    lane = models.CharField(max_length=400, default="", editable=False)

    attempt_number = models.PositiveIntegerField(default=0)
    max_attempts = models.PositiveSmallIntegerField(default=2)
    # Which failures are worth another attempt; see ``retrying``.
    retry_on = ArrayField(models.CharField(max_length=20), default=default_retry_on)
    # The number that the next event must have.
    next_seq = models.PositiveBigIntegerField(default=1)
    # Bytes of the stored events, and the last number of the log's beginning, which is never dropped.
    log_bytes = models.PositiveBigIntegerField(default=0, editable=False)
    log_head_seq = models.PositiveBigIntegerField(default=0, editable=False)
    # Whether it has ended with a log that is still kept.
    has_log = models.BooleanField(default=False, editable=False)

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
                condition=~models.Q(status__in=sorted(s.value for s in TERMINAL)) | models.Q(sealed__isnull=True),
                name="ended_jobs_hold_no_secret",
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["tenant", "-id"], name="jobs_of_a_tenant"),
            # The size of each of these follows what waits and runs, not what ever was.
            models.Index(
                fields=["tenant", "status"], condition=models.Q(status__in=["queued", "running"]), name="live_jobs"
            ),
            # A dispatch round hops from lane to lane in it, and reads of each what it dispatches.
            models.Index(
                fields=["lane", "priority", "tenant", "id"],
                condition=models.Q(status="queued", hold=Hold.NONE),
                name="ready_jobs",
            ),
            models.Index(
                fields=["tenant"], condition=models.Q(status="queued", hold=Hold.NONE), name="tenants_in_line"
            ),
            models.Index(fields=["ready_at"], condition=models.Q(status="queued", hold=Hold.TIME), name="parked_jobs"),
            models.Index(
                fields=["tenant", "concurrency_key", "priority", "id"],
                condition=models.Q(status="queued", hold=Hold.KEY),
                name="jobs_behind_a_key",
            ),
            models.Index(
                fields=["tenant", "concurrency_key"],
                condition=models.Q(status="running") | models.Q(status="queued", hold=Hold.SENT),
                name="jobs_that_hold_a_key",
            ),
            models.Index(
                fields=["queue_deadline"],
                condition=models.Q(status="queued", queue_deadline__isnull=False),
                name="jobs_by_queue_deadline",
            ),
            # What is old enough to be removed is found without a look at the rest.
            models.Index(
                fields=["finished_at"], condition=models.Q(finished_at__isnull=False), name="jobs_by_their_end"
            ),
            # By a column of its own: PostgreSQL takes a short cut (heap-only tuples) when a write changes no column of
            # any index, conditions included, and each batch of events changes the bytes.
            models.Index(fields=["finished_at"], condition=models.Q(has_log=True), name="jobs_with_a_log"),
            # Only who removes a user, a key or a job looks for these.
            *(
                models.Index(fields=[name], condition=models.Q(**{f"{name}__isnull": False}), name=f"jobs_by_{name}")
                for name in ("created_by", "api_key", "retry_of")
            ),
        ]

    def __str__(self) -> str:
        return self.public_id

    def save(self, *args: Any, **kwargs: Any) -> None:
        self.enter_lane()
        super().save(*args, **kwargs)

    def enter_lane(self) -> None:
        """Derive what follows from the capabilities."""
        self.capabilities = sorted(set(self.capabilities))
        self.lane = lane_of(self.capabilities)

    @property
    def binding(self) -> str:
        """What the job's sealed secrets are bound to."""
        return f"job:{self.public_id}"

    @property
    def is_over(self) -> bool:
        return self.status in TERMINAL

    @property
    def usage(self) -> dict[str, Any] | None:
        """Turns, tokens and cost so far, of all attempts together; None before the first figures."""
        known = [attempt.usage for attempt in self.attempts.all() if attempt.usage]
        names = [name for name in USAGE_FIELDS if any(usage.get(name) is not None for usage in known)]
        return {name: sum(usage.get(name) or 0 for usage in known) for name in names} or None


class ShareState(models.Model):
    """The fair-share clocks of tenants: one row, kept under the lock of the dispatch round.

    ``virtual`` has, by tenant id, the slot-seconds over its weight that a tenant is ahead of the furthest behind.
    """

    virtual = models.JSONField(default=dict)
    counted_at = models.DateTimeField(db_default=Now())

    def __str__(self) -> str:
        return f"shares as of {self.counted_at}"


class Attempt(models.Model):
    """One sending of a job to a queue. Its number is the fencing token of every write from a shard."""

    job = models.ForeignKey(Job, on_delete=models.CASCADE, related_name="attempts", db_index=False)
    number = models.PositiveIntegerField()
    state = models.CharField(
        max_length=10, choices=[(s.value, s.value) for s in AttemptState], default=AttemptState.SENT
    )
    queue = models.CharField(max_length=420)
    shard_class = models.CharField(max_length=400)
    # Without an index over all that it ever ran: only who removes a shard looks for that.
    shard = models.ForeignKey(
        Shard, on_delete=models.SET_NULL, null=True, blank=True, related_name="attempts", db_index=False
    )
    claim_hash = models.CharField(max_length=64, blank=True, editable=False)
    gateway_token_hash = models.CharField(max_length=64, null=True, editable=False)
    sent_at = models.DateTimeField(db_default=Now(), editable=False)
    claimed_at = models.DateTimeField(null=True, blank=True)
    lease_until = models.DateTimeField(null=True, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True)
    outcome = models.CharField(max_length=10, blank=True)
    error_code = models.CharField(max_length=60, blank=True)
    error_message = models.TextField(blank=True)
    # What the runner checked before it reported a cancel.
    proof = models.JSONField(null=True, blank=True)
    # The latest figures of its ``agent.usage`` events.
    usage = models.JSONField(null=True, blank=True, editable=False)

    class Meta:
        ordering: ClassVar = ["job", "number"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["job", "number"], name="attempt_numbers_are_fencing_tokens"),
            models.UniqueConstraint(
                fields=["gateway_token_hash"],
                condition=models.Q(gateway_token_hash__isnull=False),
                name="gateway_token_of_one_attempt",
            ),
            models.UniqueConstraint(
                fields=["job"],
                condition=models.Q(state__in=sorted(s.value for s in LIVE_ATTEMPTS)),
                name="one_live_attempt_a_job",
            ),
        ]
        indexes: ClassVar = [
            models.Index(
                fields=["state", "shard_class"],
                condition=models.Q(state__in=sorted(s.value for s in LIVE_ATTEMPTS)),
                name="live_attempts",
            ),
            models.Index(fields=["ended_at"], condition=models.Q(ended_at__isnull=False), name="attempts_by_their_end"),
            # Every claim counts what its shard runs: the attempts that it has and that have not ended. By their state
            # PostgreSQL would sooner count those of all shards.
            models.Index(
                fields=["shard"],
                condition=models.Q(shard__isnull=False, ended_at__isnull=True),
                name="attempts_on_a_shard",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.job_id}.{self.number}"


class EventBatch(models.Model):
    """Consecutive events of a job, one row a batch: ten thousand lines are tens of rows.

    ``lines`` has one event a line, as ``event_lines.encode`` writes it: viewers get the very text that is stored here,
    and nobody has to read it as JSON on the way.
    """

    job = models.ForeignKey(Job, on_delete=models.CASCADE, related_name="event_batches", db_index=False)
    attempt_number = models.PositiveIntegerField()
    first_seq = models.PositiveBigIntegerField()
    last_seq = models.PositiveBigIntegerField()
    lines = models.TextField()
    bytes = models.PositiveIntegerField()
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["job", "first_seq"], name="batch_starts_once"),
            models.CheckConstraint(
                condition=models.Q(last_seq__gte=models.F("first_seq")), name="batch_ends_after_it_starts"
            ),
        ]
        # Every reader goes on after the last number that it has.
        indexes: ClassVar = [models.Index(fields=["job", "last_seq"], name="batches_by_their_end")]

    def __str__(self) -> str:
        return f"{self.job_id}:{self.first_seq}-{self.last_seq}"
