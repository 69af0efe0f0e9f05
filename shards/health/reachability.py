"""Whether shards' calls arrive: this process's own memory of it, which need not outlive it. See ``listening``."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from threading import Lock
from typing import Final

import httpx
from django.conf import settings
from django.db.models.functions import Now

from myctobot.lib.clock import database_now
from shards.health.outage import Listening
from shards.health.rules import SILENT_AFTER
from shards.models.shard import Shard

_TIMEOUT_S: Final = 2.0


@dataclass(frozen=True)
class Heard:
    """What a look found.

    Attributes:
        since: they could be heard without a break since then.
        deaf_since: they cannot be heard: no heartbeat comes, and the web process has not answered since then.
    """

    since: datetime
    deaf_since: datetime | None = None


class Hearing:
    """Remembers what one kind of look saw; they may come from any thread."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._known: Listening | None = None
        self._deaf_since: datetime | None = None

    def look(self, *, somebody_is_silent: bool) -> Heard:
        """Look once.

        Args:
            somebody_is_silent: else all are heard, and nobody need be asked.
        """
        answers = not somebody_is_silent or calls_arrive()
        now = database_now()
        with self._lock:
            self._known = Listening.after_look(self._known, now, web_answers=answers)
            self._deaf_since = None if answers else self._deaf_since or now
            return Heard(self._known.since, self._deaf_since)


def calls_arrive() -> bool:
    """Whether some shard's heartbeat came just now, or the web process answers us."""
    if Shard.objects.filter(last_heartbeat_at__gt=Now() - SILENT_AFTER).exists():
        return True
    try:
        answer = httpx.get(f"{settings.CONTROL_URL}/healthz", timeout=_TIMEOUT_S, trust_env=False)
    except httpx.HTTPError:
        return False
    return answer.is_success
