"""What shards were like: changes of state, a sample of each now and then for charts, and what operators are told."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models.functions import Now

from shards.models.shard import Shard


class StateChange(models.Model):
    """A shard went from one state to another."""

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
    """How a shard was at one moment."""

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
    """Something that operators are told of once. It waits here until every channel took it, or it was tried in vain."""

    # What comes again under the same key is counted, and told of no more often than now and then.
    key = models.CharField(max_length=300)
    # Such as ``shard.suspect``; several of a kind at once are told of together.
    kind = models.CharField(max_length=40)
    subject = models.CharField(max_length=200)
    text = models.TextField()
    count = models.PositiveIntegerField(default=1)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    # Not told of before; unlike ``due_at`` no try moves it.
    ready_at = models.DateTimeField(db_default=Now(), editable=False)
    due_at = models.DateTimeField(db_default=Now(), editable=False)
    tries = models.PositiveSmallIntegerField(default=0)
    # {channel: when it took it}, and {channel: why it did not, the last time}.
    delivered = models.JSONField(default=dict, blank=True)
    failures = models.JSONField(default=dict, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True, editable=False)
    # The one that tells of this one as well.
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
