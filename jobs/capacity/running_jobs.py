"""What a shard runs, for layers that do not know jobs; the setting ``RUNNING_JOBS`` names it."""

from __future__ import annotations

from jobs.models.job import Attempt


def running_on(shard_id: int) -> int:
    """How many attempts a shard has claimed that have not ended. Exact for whoever holds the shard's row."""
    return Attempt.objects.filter(shard_id=shard_id, ended_at=None).count()
