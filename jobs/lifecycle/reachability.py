"""Reachability of the control plane for runners; see ``shards.health.reachability``."""

from __future__ import annotations

from datetime import datetime

from django.db.models.functions import Now

from jobs.models import Attempt
from jobs.models.states import AttemptState
from shards.health.reachability import ReachabilityMonitor

_monitor = ReachabilityMonitor("runners")


def check_reachability() -> datetime:
    """Check once, and return since when runners could reach the control plane without a break."""
    is_silent = Attempt.objects.filter(state=AttemptState.RUNNING, lease_until__lt=Now()).exists()
    return _monitor.check(has_silent_shards=is_silent).since
