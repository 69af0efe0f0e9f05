"""Callbacks and their deliveries."""

from __future__ import annotations

from functools import partial
from typing import ClassVar, Final

from django.db import models
from django.db.models.functions import Now

from jobs.models import Job
from myctobot.lib.ids import public_id
from myctobot.tenants.models import Tenant

MAX_HOST_LENGTH: Final = 300
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
    # Copied from the job for an index; a delivery completes rows of the previous release, which have no tenant.
    tenant = models.ForeignKey(
        Tenant, on_delete=models.CASCADE, null=True, related_name="+", db_index=False, editable=False
    )
    host = models.CharField(max_length=MAX_HOST_LENGTH, default="", db_default="", editable=False)
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
            # No other index of waiting rows has their times, or the planner would read those of all tenants.
            models.Index(
                fields=["tenant", "host", "next_try_at"],
                condition=models.Q(state="waiting"),
                name="callbacks_of_a_host",
            ),
            models.Index(
                fields=["id"], condition=models.Q(state="waiting", tenant=None), name="callbacks_without_tenant"
            ),
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
