"""Number of jobs on a shard, read through a setting because this package must not import ``jobs``."""

from __future__ import annotations

from django.conf import settings
from django.utils.module_loading import import_string


def running_jobs(shard_id: int) -> int:
    """Count the jobs that a shard has claimed and not ended; lock the shard's row first to keep the number stable."""
    return int(import_string(settings.RUNNING_JOBS)(shard_id))
