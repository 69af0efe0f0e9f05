"""What autoscaling decided, and why."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models.functions import Now

from shards.models.shard import Pool


class ScalingDecision(models.Model):
    """A change of a pool's size that was decided, with all that it was decided by."""

    pool = models.ForeignKey(Pool, on_delete=models.CASCADE, related_name="decisions")
    at = models.DateTimeField(db_default=Now(), editable=False)
    # Shards to build, positive, or to let go, negative.
    change = models.SmallIntegerField()
    reason = models.CharField(max_length=500)
    # The measures, the limits and the rules as they were.
    inputs = models.JSONField()
    shards = models.JSONField(default=list)
    is_dry_run = models.BooleanField()
    # What kept it from being carried out.
    error = models.TextField(blank=True)

    class Meta:
        indexes: ClassVar = [
            models.Index(fields=["pool", "-id"], name="decisions_of_a_pool"),
            models.Index(fields=["at"], name="decisions_by_time"),
        ]

    def __str__(self) -> str:
        return f"{self.pool}: {self.change:+d}"
