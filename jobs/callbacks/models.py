"""Callbacks and their deliveries."""

from __future__ import annotations

from functools import partial
from typing import ClassVar

from django.db import models
from django.db.models.functions import Now

from jobs.models import Job
from myctobot.lib.ids import public_id

new_callback_id = partial(public_id, "msg")


class CallbackState(models.TextChoices):
    """State of a callback."""

    WAITING = "waiting", "Waiting: will be sent"
    DELIVERED = "delivered", "Delivered: the endpoint took it"
    GIVEN_UP = "given_up", "Given up: not taken within a day"
    DISABLED = "disabled", "Disabled: the endpoint wants no more (410)"


class Callback(models.Model):
    """Notification to a job's endpoint. It keeps its id over all deliveries, so that a receiver can deduplicate."""

    job = models.ForeignKey(Job, on_delete=models.CASCADE, related_name="callbacks")
    kind = models.CharField(max_length=20)
    public_id = models.CharField(max_length=40, unique=True, default=new_callback_id, editable=False)
    # The exact text that is signed.
    body = models.TextField()
    state = models.CharField(max_length=10, choices=CallbackState, default=CallbackState.WAITING)
    tries = models.PositiveIntegerField(default=0)
    next_try_at = models.DateTimeField(db_default=Now())
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["job", "kind"], name="one_callback_a_kind")]
        indexes: ClassVar = [
            models.Index(fields=["next_try_at"], condition=models.Q(state="waiting"), name="callbacks_to_send")
        ]

    def __str__(self) -> str:
        return f"{self.kind} of {self.job_id}"


class Delivery(models.Model):
    """One attempt to deliver a callback."""

    callback = models.ForeignKey(Callback, on_delete=models.CASCADE, related_name="deliveries")
    at = models.DateTimeField(db_default=Now(), editable=False)
    status = models.PositiveSmallIntegerField(null=True, blank=True)
    error = models.CharField(max_length=300, blank=True)
    took_ms = models.PositiveIntegerField(default=0)
    # The person who requested a redelivery; empty for automatic deliveries.
    asked_by = models.CharField(max_length=150, blank=True)

    def __str__(self) -> str:
        return f"{self.callback_id} at {self.at}: {self.status or self.error}"
