"""Where work runs."""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib.postgres.fields import ArrayField
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models.functions import Now

from myctobot.contract.jobs import class_queue, is_slug, shard_class, shard_queue
from myctobot.lib.crypto import digest, new_token
from myctobot.tenants.models import Tenant


def validate_slug(value: str) -> None:
    if not is_slug(value):
        raise ValidationError("'%(value)s' is not a lower-case slug (a-z, 0-9, inner dashes).", params={"value": value})


class ShardType(models.TextChoices):
    """What a shard is for, in one word."""

    GENERAL = "general"
    PLAYWRIGHT = "playwright"
    DATABASE = "database"
    FULL = "full"
    CUSTOM = "custom"


class ShardTemplate(models.Model):
    """What a new shard of a type has: capabilities, MCP servers, resources and the image that it is made from."""

    name = models.CharField(max_length=40, unique=True, validators=[validate_slug])
    description = models.TextField(blank=True)
    shard_type = models.CharField(max_length=12, choices=ShardType, default=ShardType.CUSTOM)
    capabilities = ArrayField(models.CharField(max_length=40, validators=[validate_slug]))
    mcp_servers = models.JSONField(
        default=dict,
        blank=True,
        help_text='As in config.json: {"git": {"command": "mcp-server-git", "args": [], "env": {}}}.',
    )
    image = models.CharField(max_length=100, blank=True, help_text="The template image, as the provider knows it.")
    cpus = models.FloatField(default=1, validators=[MinValueValidator(0.1), MaxValueValidator(512)])
    memory_mb = models.PositiveIntegerField(default=512, validators=[MinValueValidator(128)])
    disk_mb = models.PositiveIntegerField(default=8192, validators=[MinValueValidator(512)])
    processes = models.PositiveIntegerField(default=1024, validators=[MinValueValidator(64)])
    max_concurrent_jobs = models.PositiveSmallIntegerField(
        default=1, validators=[MinValueValidator(1), MaxValueValidator(64)]
    )
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    def __str__(self) -> str:
        return self.name


class PoolMode(models.TextChoices):
    """What becomes of a shard after a job."""

    PERSISTENT = "persistent", "Persistent: takes the next job"
    EPHEMERAL = "ephemeral", "Ephemeral: is made anew after each job"


class Pool(models.Model):
    """A named group of shards and the border of trust: who may take one message of its queues may take any."""

    name = models.CharField(max_length=40, unique=True, validators=[validate_slug])
    description = models.TextField(blank=True)
    mode = models.CharField(max_length=12, choices=PoolMode, default=PoolMode.PERSISTENT)
    # What autoscaling builds, and by which rules; without rules nobody does.
    provider = models.CharField(max_length=40, blank=True, help_text="Who makes its shards when it is scaled.")
    template = models.ForeignKey(
        ShardTemplate, on_delete=models.PROTECT, null=True, blank=True, related_name="pools", help_text="What it makes."
    )
    scaling_rules = models.JSONField(null=True, blank=True, help_text="See “Autoscaling rules” in the docs.")
    scaling_dry_run = models.BooleanField(default=True, help_text="Decide and write down why, but change nothing.")
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    def __str__(self) -> str:
        return self.name


class ShardState(models.TextChoices):
    """Where a shard is in its life; the moves between are in ``shards.lifecycle.states``."""

    REQUESTED = "requested", "Requested: nothing was made for it yet, or it has never been heard of"
    PROVISIONING = "provisioning", "Provisioning: is being made, or made anew"
    READY = "ready", "Ready: takes jobs"
    SUSPECT = "suspect", "Suspect: silent, or just back; gets no new jobs"
    LOST = "lost", "Lost: silent for so long that it is given up"
    DRAINING = "draining", "Draining: finishes what it runs"
    STOPPED = "stopped", "Stopped: switched off by an operator"
    GONE = "gone", "Gone: destroyed; kept as history"


class Shard(models.Model):
    """A container, or on the embedded stack a process, that runs jobs."""

    name = models.CharField(max_length=40, unique=True, validators=[validate_slug])
    description = models.TextField(blank=True)
    shard_type = models.CharField(max_length=12, choices=ShardType, default=ShardType.GENERAL)
    pool = models.ForeignKey(Pool, on_delete=models.PROTECT, null=True, blank=True, related_name="shards")
    capabilities = ArrayField(models.CharField(max_length=40, validators=[validate_slug]))
    # Derived from capabilities and pool on every save; stored to be searched and shown.
    shard_class = models.CharField(max_length=400, editable=False, db_index=True)
    template = models.ForeignKey(ShardTemplate, on_delete=models.PROTECT, null=True, blank=True, related_name="shards")
    mcp_servers = models.JSONField(default=dict, blank=True, help_text="As in config.json; beside the template's.")
    resource_spec = models.JSONField(
        default=dict,
        blank=True,
        help_text='What differs from its template: {"cpus": 1, "memory_mb": 512, "disk_mb": 8192, "processes": 1024}.',
    )
    # Who made its container, and under which reference; no provider means a machine that somebody set up by hand.
    provider = models.CharField(max_length=40, blank=True)
    provider_ref = models.CharField(max_length=200, blank=True, editable=False)
    max_concurrent_jobs = models.PositiveSmallIntegerField(
        default=1, validators=[MinValueValidator(1), MaxValueValidator(64)]
    )
    is_active = models.BooleanField(default=True)
    # Made ahead of need: ready but for taking jobs, until it is activated.
    is_spare = models.BooleanField(default=False, editable=False)
    # Took a job since it was made. Of an ephemeral pool it takes no other before it was made anew.
    is_used = models.BooleanField(default=False, editable=False)
    state = models.CharField(max_length=12, choices=ShardState, default=ShardState.REQUESTED, editable=False)
    state_since = models.DateTimeField(db_default=Now(), editable=False)
    state_reason = models.CharField(max_length=500, blank=True, editable=False)
    key_hash = models.CharField(max_length=64, null=True, editable=False)
    broker_password_hash = models.CharField(max_length=64, null=True, editable=False)
    last_heartbeat_at = models.DateTimeField(null=True, blank=True, editable=False)
    # The first heartbeat since it was silent last; a shard that comes and goes is not trusted at once.
    steady_since = models.DateTimeField(null=True, blank=True, editable=False)
    # What the shard said of itself last: cpu, memory, disk, versions, live runners.
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
        """The two queues that this shard consumes."""
        return [class_queue(self.capabilities, self.pool.name if self.pool else None), shard_queue(self.name)]

    @property
    def usable_slots(self) -> int:
        """What both sides agree on: the operator's limit, and what the shard says that it has."""
        reported = self.report.get("slots", self.max_concurrent_jobs)
        return min(self.max_concurrent_jobs, int(reported))

    def issue_key(self) -> str:
        """Give the shard a new key, which ends the old one, and return it; only its digest is kept."""
        key = new_token("mcts")
        self.key_hash = digest(key)
        self.save(update_fields=["key_hash"])
        return key


class Assignment(models.Model):
    """Lets a tenant use a shard or a pool; the lower the priority's number, the sooner it is chosen."""

    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="assignments")
    shard = models.ForeignKey(Shard, on_delete=models.CASCADE, null=True, blank=True, related_name="assignments")
    pool = models.ForeignKey(Pool, on_delete=models.CASCADE, null=True, blank=True, related_name="assignments")
    priority = models.PositiveSmallIntegerField(default=100)
    is_default = models.BooleanField(default=False)

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=models.Q(shard__isnull=False, pool__isnull=True)
                | models.Q(shard__isnull=True, pool__isnull=False),
                name="assignment_of_a_shard_or_a_pool",
                violation_error_message="Assign either a shard or a pool, not both and not neither.",
            ),
            models.UniqueConstraint(
                fields=["tenant"], condition=models.Q(is_default=True), name="one_default_assignment_a_tenant"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.tenant} -> {self.shard or self.pool} ({self.priority})"


class Closure(models.Model):
    """Takes a shard (a drain), a class queue or a pool (a pause) out of dispatch: who did it, when and why.

    What runs goes on. A row stays as history when it is reopened.
    """

    shard = models.ForeignKey(Shard, on_delete=models.CASCADE, null=True, blank=True, related_name="closures")
    pool = models.ForeignKey(Pool, on_delete=models.CASCADE, null=True, blank=True, related_name="closures")
    shard_class = models.CharField(max_length=400, blank=True)
    reason = models.CharField(max_length=300)
    # Text, not keys of users: the history outlives them, and a command on the server has no user.
    closed_by = models.CharField(max_length=150)
    closed_at = models.DateTimeField(db_default=Now(), editable=False)
    reopened_by = models.CharField(max_length=150, blank=True)
    reopened_at = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=models.Q(shard__isnull=False, pool__isnull=True, shard_class="")
                | models.Q(shard__isnull=True, pool__isnull=False, shard_class="")
                | (models.Q(shard__isnull=True, pool__isnull=True) & ~models.Q(shard_class="")),
                name="closure_of_one_thing",
                violation_error_message="Close a shard, a pool or a class, one of them.",
            ),
            *(
                models.UniqueConstraint(
                    fields=[field], condition=models.Q(reopened_at=None) & ~models.Q(**{field: empty}), name=name
                )
                for field, empty, name in (
                    ("shard", None, "one_open_drain_a_shard"),
                    ("pool", None, "one_open_pause_a_pool"),
                    ("shard_class", "", "one_open_pause_a_class"),
                )
            ),
        ]

    def __str__(self) -> str:
        return f"{self.shard or self.pool or self.shard_class} closed by {self.closed_by}"
