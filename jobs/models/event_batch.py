"""Batches of events as runners sent them."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models.functions import Now

from jobs.models.job import Job


class EventBatch(models.Model):
    """Consecutive events of a job in one row, so that ten thousand events take tens of rows.

    ``lines`` has one event a line, as ``jobs.events.encoding`` writes it. Viewers get the stored text unchanged,
    so that it is never parsed here.
    """

    job = models.ForeignKey(Job, on_delete=models.CASCADE, related_name="event_batches", db_index=False)
    attempt_number = models.IntegerField()
    first_seq = models.BigIntegerField()
    last_seq = models.BigIntegerField()
    lines = models.TextField()
    bytes = models.IntegerField()
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["job", "first_seq"], name="batch_starts_once"),
            models.CheckConstraint(
                condition=models.Q(last_seq__gte=models.F("first_seq")), name="batch_ends_after_it_starts"
            ),
        ]
        # Every reader continues after the last number that it has.
        indexes: ClassVar = [models.Index(fields=["job", "last_seq"], name="batches_by_their_end")]

    def __str__(self) -> str:
        return f"{self.job_id}:{self.first_seq}-{self.last_seq}"
