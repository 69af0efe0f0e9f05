"""Attempts: one row for each time a job was sent to a queue."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models.functions import Now

from jobs.models.job import Job
from jobs.models.states import LIVE_ATTEMPTS, AttemptState
from shards.models import Shard


class Attempt(models.Model):
    """One dispatch of a job to a queue. Its number is the fencing token of every write from a shard."""

    job = models.ForeignKey(Job, on_delete=models.CASCADE, related_name="attempts", db_index=False)
    number = models.IntegerField()
    state = models.CharField(
        max_length=10, choices=[(s.value, s.value) for s in AttemptState], default=AttemptState.SENT
    )
    queue = models.CharField(max_length=420)
    shard_class = models.CharField(max_length=400)
    # Not indexed over all attempts, because only the removal of a shard reads the ended ones.
    shard = models.ForeignKey(
        Shard, on_delete=models.SET_NULL, null=True, blank=True, related_name="attempts", db_index=False
    )
    claim_hash = models.CharField(max_length=64, blank=True, editable=False)
    gateway_token_hash = models.CharField(max_length=64, null=True, editable=False)
    sent_at = models.DateTimeField(db_default=Now(), editable=False)
    claimed_at = models.DateTimeField(null=True, blank=True)
    lease_until = models.DateTimeField(null=True, blank=True)
    # Time of the first of the shard's reports in a row that do not name it; null while they do.
    missing_at = models.DateTimeField(null=True, blank=True, editable=False)
    ended_at = models.DateTimeField(null=True, blank=True)
    outcome = models.CharField(max_length=10, blank=True)
    error_code = models.CharField(max_length=60, blank=True)
    error_message = models.TextField(blank=True)
    # Checks that the runner made before it reported a cancel.
    proof = models.JSONField(null=True, blank=True)
    # Latest figures of its ``agent.usage`` events.
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
            # Every claim counts the live attempts of its shard. By ``ended_at``, because the planner would otherwise
            # prefer ``live_attempts`` and count those of all shards.
            models.Index(
                fields=["shard"],
                condition=models.Q(shard__isnull=False, ended_at__isnull=True),
                name="attempts_on_a_shard",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.job_id}.{self.number}"
