"""Tables of state changes, samples and alerts."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models.functions import Now

from shards.models import Shard


class StateChange(models.Model):
    """Change of a shard's state."""

    shard = models.ForeignKey(Shard, on_delete=models.CASCADE, related_name="state_changes")
    was = models.CharField(max_length=12)
    state = models.CharField(max_length=12)
    reason = models.CharField(max_length=500, blank=True)
    by = models.CharField(max_length=150, blank=True)
    at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        indexes: ClassVar = [
            models.Index(fields=["shard", "-id"], name="changes_of_a_shard"),
            models.Index(fields=["at"], name="changes_by_time"),
        ]

    def __str__(self) -> str:
        return f"{self.shard}: {self.was} -> {self.state}"


class ShardSample(models.Model):
    """Sample of a shard's load at one moment."""

    shard = models.ForeignKey(Shard, on_delete=models.CASCADE, related_name="samples", db_index=False)
    at = models.DateTimeField()
    state = models.CharField(max_length=12)
    cpu_percent = models.FloatField()
    memory_mb = models.PositiveIntegerField()
    memory_total_mb = models.PositiveIntegerField()
    disk_free_mb = models.PositiveIntegerField()
    running = models.PositiveSmallIntegerField()
    slots = models.PositiveSmallIntegerField()

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["shard", "at"], name="one_sample_a_moment")]
        indexes: ClassVar = [models.Index(fields=["at"], name="samples_by_time")]

    def __str__(self) -> str:
        return f"{self.shard} at {self.at:%H:%M:%S}"


class Alert(models.Model):
    """Alert to operators, kept until every channel has delivered it or all tries failed."""

    # Repetitions under the same key are counted and sent at a limited rate.
    key = models.CharField(max_length=300)
    # For example, ``shard.suspect``. Several alerts of a kind are sent together.
    kind = models.CharField(max_length=40)
    subject = models.CharField(max_length=200)
    text = models.TextField()
    count = models.PositiveIntegerField(default=1)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    # Earliest time of the first try; unlike ``due_at``, later tries do not change it.
    ready_at = models.DateTimeField(db_default=Now(), editable=False)
    due_at = models.DateTimeField(db_default=Now(), editable=False)
    tries = models.PositiveSmallIntegerField(default=0)
    # {channel: time of the delivery}, and {channel: reason of the last failure}.
    delivered = models.JSONField(default=dict, blank=True)
    failures = models.JSONField(default=dict, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True, editable=False)
    # The alert whose message includes this one.
    part_of = models.ForeignKey("self", on_delete=models.CASCADE, null=True, blank=True, related_name="parts")

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["key"], condition=models.Q(tries=0, ended_at=None), name="one_untold_alert_a_key"
            )
        ]
        indexes: ClassVar = [
            models.Index(fields=["due_at"], condition=models.Q(ended_at=None), name="alerts_to_tell"),
            models.Index(fields=["key", "-ready_at"], name="alerts_of_a_key"),
        ]

    def __str__(self) -> str:
        return self.subject
