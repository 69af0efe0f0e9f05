"""Agents' work that is kept with its job, for a later push and for download."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models.functions import Now

from jobs.models.job import Job
from myctobot.tenants.models import Tenant


class KeptWork(models.Model):
    """Work of one attempt, encrypted; it expires."""

    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="+", db_index=False)
    job = models.ForeignKey(Job, on_delete=models.CASCADE, related_name="kept_works", db_index=False)
    attempt_number = models.IntegerField()
    # All parts and the manifest have arrived.
    is_complete = models.BooleanField(default=False)
    # The agent ended well, so only the push is missing.
    is_ready = models.BooleanField(default=False)
    head = models.CharField(max_length=64, blank=True)
    bundle_bytes = models.BigIntegerField(default=0)
    patch_bytes = models.BigIntegerField(default=0)
    # Of all parts, before the encryption.
    stored_bytes = models.BigIntegerField(default=0)
    # The encrypted manifest.
    sealed = models.TextField(null=True, editable=False)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    expires_at = models.DateTimeField()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["job", "attempt_number"], name="kept_work_of_one_attempt"),
        ]
        indexes: ClassVar = [
            models.Index(fields=["tenant", "id"], name="kept_work_of_a_tenant"),
            models.Index(fields=["expires_at"], name="kept_work_by_its_end"),
        ]

    def __str__(self) -> str:
        return f"{self.job_id}.{self.attempt_number}"


class KeptWorkPart(models.Model):
    """Encrypted part of a file of kept work."""

    work = models.ForeignKey(KeptWork, on_delete=models.CASCADE, related_name="parts", db_index=False)
    file = models.CharField(max_length=10)
    number = models.IntegerField()
    # Before the encryption.
    bytes = models.IntegerField()
    sealed = models.TextField(editable=False)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["work", "file", "number"], name="parts_of_kept_work"),
        ]

    def __str__(self) -> str:
        return f"{self.work_id}.{self.file}.{self.number}"
