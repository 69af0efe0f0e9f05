"""Number of jobs on a shard, for layers that do not import jobs; the setting ``RUNNING_JOBS`` names the function."""

from __future__ import annotations

from jobs.models import Attempt


def running_on(shard_id: int) -> int:
    """Return the number of live attempts on a shard. The result is exact while the caller locks the shard's row."""
    return Attempt.objects.filter(shard_id=shard_id, ended_at=None).count()
