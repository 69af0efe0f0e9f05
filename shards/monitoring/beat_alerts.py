"""Alerts about periodic tasks that do not run; beat starts all of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from django.db.models.functions import Now

from shards.models import ReachabilityRecord
from shards.models.reachability import SHARDS_MONITOR
from shards.monitoring.alerts import alert_once, deliver_due

# The check of shards runs every two seconds. It is late on a busy machine, and stops while processes restart.
BEAT_SILENT_AFTER: Final = timedelta(minutes=2)
# A process that did not run for this long, as on a suspended machine, starts to observe again.
_MAX_PAUSE_S: Final = 60.0


def alert_silence(since: datetime, *, until: datetime | None = None) -> None:
    """Alert operators once about a time without periodic tasks.

    Args:
        since: time of the last check of shards, which identifies the silence.
        until: time of the next check; None if there was none yet.
    """
    causes = "Beat, the control worker, the broker or PostgreSQL does not work, or hangs."
    effects = "no health checks of shards, no alerts, no lost attempts, no cleaning up"
    if until is None:
        subject = "Periodic tasks do not run"
        text = (
            f"Since {since:%F %T} UTC, no periodic task has run: {effects}. {causes} See the logs of these processes."
        )
    else:
        subject = f"Periodic tasks did not run for {(until - since).total_seconds() // 60:.0f} min"
        text = (
            f"From {since:%F %T} to {until:%F %T} UTC, no periodic task ran: {effects}. They run again. Beat, the "
            "control worker, the broker or PostgreSQL did not work. If they were not stopped on purpose, their logs "
            "have the reason."
        )
    alert_once("beat.silent", subject, text, key=f"beat.silent {since.isoformat()}")


class BeatWatch:
    """Watch of a web process over periodic tasks, none of which can report that it does not run.

    It counts only a silence that it has seen itself, so neither the start of a stack nor an outage of the database is
    one. The first check of shards after those reports them.

    Args:
        clock: returns seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._since: float | None = None
        self._last = 0.0

    def check(self) -> None:
        """Alert operators once about a silence, and deliver alerts while it lasts."""
        now = self._clock()
        if self._since is None or now - self._last > _MAX_PAUSE_S:
            self._since = now
        self._last = now
        if now - self._since < BEAT_SILENT_AFTER.total_seconds():
            return
        try:
            last = _silent_since()
            if last is not None:
                alert_silence(last)
                # No task does it.
                deliver_due()
        except Exception:
            self._since = None
            raise


def _silent_since() -> datetime | None:
    """Return the time of the last check of shards if it is too old; None also before the first one."""
    old = ReachabilityRecord.objects.filter(monitor=SHARDS_MONITOR, checked_at__lte=Now() - BEAT_SILENT_AFTER)
    return old.values_list("checked_at", flat=True).first()
