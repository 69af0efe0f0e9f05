"""Table of the checks whether shards and runners can reach the control plane."""

from __future__ import annotations

from typing import Final

from django.db import models

# Monitor of the checks of shards, which beat starts every two seconds.
SHARDS_MONITOR: Final = "shards"


class ReachabilityRecord(models.Model):
    """State after the latest check of one monitor.

    It is in the database because the control worker may restart at any time, and a restart is no outage of the web
    process that shards and runners call.
    """

    monitor = models.CharField(max_length=20, unique=True)
    # Start of the present time without an outage, up to ``checked_at``.
    since = models.DateTimeField()
    checked_at = models.DateTimeField()
    # Start of the present outage; null while there is none.
    unreachable_since = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return f"{self.monitor} since {self.since:%Y-%m-%d %H:%M:%S}"
