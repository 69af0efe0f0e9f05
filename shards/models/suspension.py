"""Table of suspensions: drains and pauses by operators."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models.functions import Now

from shards.models.pool import Pool
from shards.models.shard import Shard


class Suspension(models.Model):
    """Drain of a shard, or pause of a class or pool, which excludes it from dispatch. Running jobs continue.

    A row stays as history after it is resumed.
    """

    shard = models.ForeignKey(Shard, on_delete=models.CASCADE, null=True, blank=True, related_name="suspensions")
    pool = models.ForeignKey(Pool, on_delete=models.CASCADE, null=True, blank=True, related_name="suspensions")
    shard_class = models.CharField(max_length=400, blank=True)
    reason = models.CharField(max_length=300)
    # Text instead of foreign keys, because the history outlives users, and a command has no user.
    suspended_by = models.CharField(max_length=150, db_column="closed_by")
    suspended_at = models.DateTimeField(db_default=Now(), editable=False, db_column="closed_at")
    resumed_by = models.CharField(max_length=150, blank=True, db_column="reopened_by")
    resumed_at = models.DateTimeField(null=True, blank=True, editable=False, db_column="reopened_at")

    class Meta:
        # The table and its columns keep the names of the first release.
        db_table = "shards_closure"
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=models.Q(shard__isnull=False, pool__isnull=True, shard_class="")
                | models.Q(shard__isnull=True, pool__isnull=False, shard_class="")
                | (models.Q(shard__isnull=True, pool__isnull=True) & ~models.Q(shard_class="")),
                name="closure_of_one_thing",
                violation_error_message="Suspend exactly one of shard, pool and class.",
            ),
            *(
                models.UniqueConstraint(
                    fields=[field], condition=models.Q(resumed_at=None) & ~models.Q(**{field: empty}), name=name
                )
                for field, empty, name in (
                    ("shard", None, "one_open_drain_a_shard"),
                    ("pool", None, "one_open_pause_a_pool"),
                    ("shard_class", "", "one_open_pause_a_class"),
                )
            ),
        ]

    def __str__(self) -> str:
        return f"{self.shard or self.pool or self.shard_class} suspended by {self.suspended_by}"
