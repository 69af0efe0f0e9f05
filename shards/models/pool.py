"""Tables of pools and shard templates."""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models.functions import Now

from myctobot.contract.names import is_slug


def validate_slug(value: str) -> None:
    if not is_slug(value):
        raise ValidationError("'%(value)s' is not a lower-case slug (a-z, 0-9, inner dashes).", params={"value": value})


class ShardType(models.TextChoices):
    """Purpose of a shard."""

    GENERAL = "general"
    PLAYWRIGHT = "playwright"
    DATABASE = "database"
    FULL = "full"
    CUSTOM = "custom"


class ShardTemplate(models.Model):
    """Template of new shards: capabilities, MCP servers, resources and image."""

    name = models.CharField(max_length=40, unique=True, validators=[validate_slug])
    description = models.TextField(blank=True)
    shard_type = models.CharField(max_length=12, choices=ShardType, default=ShardType.CUSTOM)
    capabilities = ArrayField(models.CharField(max_length=40, validators=[validate_slug]))
    mcp_servers = models.JSONField(
        default=dict,
        blank=True,
        help_text='As in config.json: {"git": {"command": "mcp-server-git", "args": [], "env": {}}}.',
    )
    image = models.CharField(max_length=100, blank=True, help_text="Name of the image at the provider.")
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
    """Mode of a pool, which decides what happens to a shard after a job."""

    PERSISTENT = "persistent", "Persistent: takes the next job"
    EPHEMERAL = "ephemeral", "Ephemeral: is re-created after each job"


class Pool(models.Model):
    """Named group of shards and trust boundary: a shard that may read a queue of the pool can read all its messages."""

    name = models.CharField(max_length=40, unique=True, validators=[validate_slug])
    description = models.TextField(blank=True)
    mode = models.CharField(max_length=12, choices=PoolMode, default=PoolMode.PERSISTENT)
    # Autoscaling builds shards with this provider and template. A pool without rules is not scaled.
    provider = models.CharField(max_length=40, blank=True, help_text="Provider of the shards that autoscaling builds.")
    template = models.ForeignKey(
        ShardTemplate,
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        related_name="pools",
        help_text="Template of the shards that autoscaling builds.",
    )
    scaling_rules = models.JSONField(null=True, blank=True, help_text="See “Autoscaling rules” in the docs.")
    scaling_dry_run = models.BooleanField(default=True, help_text="Log decisions, but change nothing.")
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    def __str__(self) -> str:
        return self.name
