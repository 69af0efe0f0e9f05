"""Tables of operations on containers and of enrolment tokens."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models.functions import Now

from shards.models import Shard


class OperationKind(models.TextChoices):
    """Kind of operation on a shard's container."""

    PROVISION = "provision", "Provision: create it and wait until it is ready"
    RECYCLE = "recycle", "Recycle: re-create it"
    START = "start", "Start"
    STOP = "stop", "Stop"
    RESTART = "restart", "Restart"
    SNAPSHOT = "snapshot", "Snapshot"
    RESTORE = "restore", "Restore a snapshot"
    DESTROY = "destroy", "Destroy"


class OperationState(models.TextChoices):
    """State of an operation."""

    QUEUED = "queued", "Queued"
    RUNNING = "running", "Running"
    DONE = "done", "Done"
    FAILED = "failed", "Failed"


LIVE_OPERATIONS = (OperationState.QUEUED, OperationState.RUNNING)


class Operation(models.Model):
    """Operation on a shard's container, with its steps. A shard has at most one live operation."""

    shard = models.ForeignKey(Shard, on_delete=models.CASCADE, related_name="operations")
    kind = models.CharField(max_length=12, choices=OperationKind)
    state = models.CharField(max_length=8, choices=OperationState, default=OperationState.QUEUED)
    # For example, the label of a snapshot.
    arguments = models.JSONField(default=dict, blank=True)
    # [{"at": RFC 3339, "text": …}], oldest first.
    steps = models.JSONField(default=list, blank=True)
    error = models.TextField(blank=True)
    requested_by = models.CharField(max_length=150)
    requested_at = models.DateTimeField(db_default=Now(), editable=False)
    started_at = models.DateTimeField(null=True, blank=True, editable=False)
    # Sign of life of the process that runs the operation.
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
    """One-time token that a shard exchanges for its key. Only the digest is stored."""

    shard = models.ForeignKey(Shard, on_delete=models.CASCADE, related_name="enrolments")
    token_hash = models.CharField(max_length=64, unique=True, editable=False)
    created_by = models.CharField(max_length=150)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    expires_at = models.DateTimeField()
    used_at = models.DateTimeField(null=True, blank=True, editable=False)

    def __str__(self) -> str:
        return f"enrolment of {self.shard}"
