"""This process's own looks at whether runners could be heard; see ``listening``."""

from __future__ import annotations

from datetime import datetime
from threading import Lock

import httpx
from django.conf import settings
from django.db.models.functions import Now

from jobs.listening import Listening
from jobs.models import Attempt
from jobs.states import AttemptState
from myctobot.lib.clock import database_now
from shards.health import SILENT_AFTER
from shards.models import Shard

_TIMEOUT_S = 2.0

_lock = Lock()
_known: Listening | None = None


def look() -> datetime:
    """Look once, and return since when runners could be heard without a break."""
    # One memory a process; it need not outlive it.
    global _known
    answers = not _somebody_is_silent() or _web_answers()
    with _lock:
        _known = Listening.after_look(_known, database_now(), web_answers=answers)
        return _known.since


def _somebody_is_silent() -> bool:
    return Attempt.objects.filter(state=AttemptState.RUNNING, lease_until__lt=Now()).exists()


def _web_answers() -> bool:
    """Whether shards' calls arrive: some shard's heartbeat came just now, or the web process answers us."""
    if Shard.objects.filter(last_heartbeat_at__gt=Now() - SILENT_AFTER).exists():
        return True
    try:
        answer = httpx.get(f"{settings.CONTROL_URL}/healthz", timeout=_TIMEOUT_S, trust_env=False)
    except httpx.HTTPError:
        return False
    return answer.is_success
