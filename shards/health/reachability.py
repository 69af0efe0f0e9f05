"""Reachability of the control plane for shards, remembered in this process; see ``shards.health.outage``."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from threading import Lock
from typing import Final

import httpx
from django.conf import settings
from django.db.models.functions import Now

from myctobot.lib.clock import database_now
from shards.health.outage import OutageTracker
from shards.models import Shard
from shards.models.timeouts import SILENT_AFTER

_TIMEOUT_S: Final = 2.0


@dataclass(frozen=True)
class Reachability:
    """Result of a check.

    Attributes:
        since: start of the present time without an outage.
        unreachable_since: start of the present outage: no heartbeat arrives and the shard API does not answer.
    """

    since: datetime
    unreachable_since: datetime | None = None


class ReachabilityMonitor:
    """Memory of the previous checks; safe for use by several threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._tracker: OutageTracker | None = None
        self._deaf_since: datetime | None = None

    def check(self, *, has_silent_shards: bool) -> Reachability:
        """Check once.

        Args:
            has_silent_shards: if False, heartbeats prove reachability and no request is sent.
        """
        answers = not has_silent_shards or is_reachable()
        now = database_now()
        with self._lock:
            self._tracker = OutageTracker.after_check(self._tracker, now, web_answers=answers)
            self._deaf_since = None if answers else self._deaf_since or now
            return Reachability(self._tracker.since, self._deaf_since)


def is_reachable() -> bool:
    """Tell whether a recent heartbeat arrived or the process of the shard API answers."""
    if Shard.objects.filter(last_heartbeat_at__gt=Now() - SILENT_AFTER).exists():
        return True
    try:
        response = httpx.get(f"{settings.SHARD_API_URL}/healthz", timeout=_TIMEOUT_S, trust_env=False)
    except httpx.HTTPError:
        return False
    return response.is_success
