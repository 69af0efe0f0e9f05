"""How many jobs a shard runs; who knows that is to the right of shards, so a setting names it."""

from __future__ import annotations

from django.conf import settings
from django.utils.module_loading import import_string


def running_jobs(shard_id: int) -> int:
    """Count the jobs that a shard has taken and not ended; hold the shard's row, as claims do, for it to stay so."""
    return int(import_string(settings.RUNNING_JOBS)(shard_id))
