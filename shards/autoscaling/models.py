"""Table of scaling decisions."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models.functions import Now

from shards.models import Pool


class ScalingDecision(models.Model):
    """Decision to change a pool's size, with everything that it is based on."""

    pool = models.ForeignKey(Pool, on_delete=models.CASCADE, related_name="decisions")
    at = models.DateTimeField(db_default=Now(), editable=False)
    # Number of shards to build (positive) or to release (negative).
    change = models.SmallIntegerField()
    reason = models.CharField(max_length=500)
    # Measures, limits and rules at the time.
    inputs = models.JSONField()
    shards = models.JSONField(default=list)
    is_dry_run = models.BooleanField()
    # Why the decision was not carried out.
    error = models.TextField(blank=True)

    class Meta:
        indexes: ClassVar = [
            models.Index(fields=["pool", "-id"], name="decisions_of_a_pool"),
            models.Index(fields=["at"], name="decisions_by_time"),
        ]

    def __str__(self) -> str:
        return f"{self.pool}: {self.change:+d}"
