"""Work on a shard's container, step by step, and the tokens by which a new shard enrols."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models.functions import Now

from shards.models.shard import Shard


class OperationKind(models.TextChoices):
    """What can be done to the container of a shard."""

    PROVISION = "provision", "Provision: make it, enrol it, wait until it is ready"
    RECYCLE = "recycle", "Recycle: make it anew after a job"
    START = "start", "Start"
    STOP = "stop", "Stop"
    RESTART = "restart", "Restart"
    SNAPSHOT = "snapshot", "Snapshot"
    RESTORE = "restore", "Restore a snapshot"
    DESTROY = "destroy", "Destroy"


class OperationState(models.TextChoices):
    """Where an operation is."""

    QUEUED = "queued", "Queued"
    RUNNING = "running", "Running"
    DONE = "done", "Done"
    FAILED = "failed", "Failed"


LIVE_OPERATIONS = (OperationState.QUEUED, OperationState.RUNNING)


class Operation(models.Model):
    """One piece of work on a shard's container. There is one at a time for a shard; each step is written down."""

    shard = models.ForeignKey(Shard, on_delete=models.CASCADE, related_name="operations")
    kind = models.CharField(max_length=12, choices=OperationKind)
    state = models.CharField(max_length=8, choices=OperationState, default=OperationState.QUEUED)
    # Such as the label of a snapshot.
    arguments = models.JSONField(default=dict, blank=True)
    # [{"at": RFC 3339, "text": …}], oldest first.
    steps = models.JSONField(default=list, blank=True)
    error = models.TextField(blank=True)
    requested_by = models.CharField(max_length=150)
    requested_at = models.DateTimeField(db_default=Now(), editable=False)
    started_at = models.DateTimeField(null=True, blank=True, editable=False)
    # Moved on by whoever carries it out; an operation that stands still was left by a process that died.
    alive_at = models.DateTimeField(null=True, blank=True, editable=False)
    ended_at = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["shard"], condition=models.Q(state__in=LIVE_OPERATIONS), name="one_operation_a_shard"
            )
        ]
        indexes: ClassVar = [
            models.Index(fields=["shard", "-id"], name="operations_of_a_shard"),
            models.Index(
                fields=["ended_at"], condition=models.Q(ended_at__isnull=False), name="operations_by_their_end"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} of {self.shard} ({self.state})"


class Enrolment(models.Model):
    """A one-time token that a new shard exchanges for its key. Only its digest is kept."""

    shard = models.ForeignKey(Shard, on_delete=models.CASCADE, related_name="enrolments")
    token_hash = models.CharField(max_length=64, unique=True, editable=False)
    created_by = models.CharField(max_length=150)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    expires_at = models.DateTimeField()
    used_at = models.DateTimeField(null=True, blank=True, editable=False)

    def __str__(self) -> str:
        return f"enrolment of {self.shard}"
