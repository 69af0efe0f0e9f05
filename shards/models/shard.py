"""Table of shards."""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib.postgres.fields import ArrayField
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models.functions import Now

from myctobot.contract.shards import class_queue, shard_class, shard_queue
from myctobot.lib.crypto import digest, new_token
from shards.models.pool import Pool, ShardTemplate, ShardType, validate_slug


class ShardState(models.TextChoices):
    """State of a shard; ``shards.lifecycle.states`` defines the allowed transitions."""

    REQUESTED = "requested", "Requested: not provisioned yet, or never reported"
    PROVISIONING = "provisioning", "Provisioning: is being created or re-created"
    READY = "ready", "Ready: takes jobs"
    SUSPECT = "suspect", "Suspect: silent, or just back; gets no new jobs"
    LOST = "lost", "Lost: silent for too long"
    DRAINING = "draining", "Draining: finishes its jobs and takes no new ones"
    STOPPED = "stopped", "Stopped: stopped by an operator or after a failure"
    GONE = "gone", "Gone: destroyed; kept as history"


class Shard(models.Model):
    """Container that runs jobs; in the embedded stack, a process."""

    name = models.CharField(max_length=40, unique=True, validators=[validate_slug])
    description = models.TextField(blank=True)
    shard_type = models.CharField(max_length=12, choices=ShardType, default=ShardType.GENERAL)
    pool = models.ForeignKey(Pool, on_delete=models.PROTECT, null=True, blank=True, related_name="shards")
    capabilities = ArrayField(models.CharField(max_length=40, validators=[validate_slug]))
    # Derived from capabilities and pool on every save; stored for searches.
    shard_class = models.CharField(max_length=400, editable=False, db_index=True)
    template = models.ForeignKey(ShardTemplate, on_delete=models.PROTECT, null=True, blank=True, related_name="shards")
    mcp_servers = models.JSONField(default=dict, blank=True, help_text="As in config.json; added to the template's.")
    resource_spec = models.JSONField(
        default=dict,
        blank=True,
        help_text='Differences from the template: {"cpus": 1, "memory_mb": 512, "disk_mb": 8192, "processes": 1024}.',
    )
    # Provider and reference of its container; a machine that operators set up has no provider.
    provider = models.CharField(max_length=40, blank=True)
    provider_ref = models.CharField(max_length=200, blank=True, editable=False)
    max_concurrent_jobs = models.PositiveSmallIntegerField(
        default=1, validators=[MinValueValidator(1), MaxValueValidator(64)]
    )
    is_active = models.BooleanField(default=True)
    # A warm spare: it takes no jobs until it is activated.
    is_spare = models.BooleanField(default=False, editable=False)
    # Has taken a job since it was created. In an ephemeral pool, it takes no other one before it is re-created.
    is_used = models.BooleanField(default=False, editable=False)
    state = models.CharField(max_length=12, choices=ShardState, default=ShardState.REQUESTED, editable=False)
    state_since = models.DateTimeField(db_default=Now(), editable=False)
    state_reason = models.CharField(max_length=500, blank=True, editable=False)
    key_hash = models.CharField(max_length=64, null=True, editable=False)
    broker_password_hash = models.CharField(max_length=64, null=True, editable=False)
    last_heartbeat_at = models.DateTimeField(null=True, blank=True, editable=False)
    # First heartbeat since the last silence, for detecting flapping shards.
    steady_since = models.DateTimeField(null=True, blank=True, editable=False)
    # Last report of the shard: CPU, memory, disk, versions, live runners.
    report = models.JSONField(default=dict, blank=True, editable=False)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["key_hash"], name="key_of_one_shard")]

    def __str__(self) -> str:
        return self.name

    def save(self, *args: Any, **kwargs: Any) -> None:
        self.capabilities = sorted(set(self.capabilities))
        self.shard_class = shard_class(self.capabilities, self.pool.name if self.pool else None)
        super().save(*args, **kwargs)

    @property
    def queues(self) -> list[str]:
        """Return the two queues that this shard consumes."""
        return [class_queue(self.capabilities, self.pool.name if self.pool else None), shard_queue(self.name)]

    @property
    def usable_slots(self) -> int:
        """Return the smaller of the operator's limit and the slots that the shard reports."""
        reported = self.report.get("slots", self.max_concurrent_jobs)
        return min(self.max_concurrent_jobs, int(reported))

    def issue_key(self) -> str:
        """Issue a new key, which replaces the old one, and return it; only its digest is stored."""
        key = new_token("mcts")
        self.key_hash = digest(key)
        self.save(update_fields=["key_hash"])
        return key
