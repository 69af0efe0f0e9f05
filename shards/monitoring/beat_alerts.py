"""Alerts about periodic tasks that do not run; beat starts all of them."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from shards.monitoring.alerts import alert_once

# The check of shards runs every two seconds. It is late on a busy machine, and stops while processes restart.
BEAT_SILENT_AFTER: Final = timedelta(minutes=2)


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
            "control worker, the broker or PostgreSQL did not work. If nobody stopped them on purpose, their logs have "
            "the reason."
        )
    alert_once("beat.silent", subject, text, key=f"beat.silent {since.isoformat()}")
