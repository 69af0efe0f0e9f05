"""This process's own looks at whether runners could be heard; see ``shards.health.reachability``."""

from __future__ import annotations

from datetime import datetime

from django.db.models.functions import Now

from jobs.models.job import Attempt
from jobs.models.states import AttemptState
from shards.health.reachability import Hearing

_hearing = Hearing()


def look() -> datetime:
    """Look once, and return since when runners could be heard without a break."""
    silent = Attempt.objects.filter(state=AttemptState.RUNNING, lease_until__lt=Now()).exists()
    return _hearing.look(somebody_is_silent=silent).since
