"""Alerts of a web process about processes of the control plane that the supervisor cannot start, or that hang."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final

from django.db import connection
from django.utils import timezone

from myctobot.lib.failing_parts import FailingPart, failing_parts
from myctobot.lib.repeating_thread import RepeatingThread
from shards.monitoring.alerts import alert_once, deliver_due
from shards.monitoring.beat_alerts import BeatWatch

# A crash or a full disk may take seconds. A longer outage alerts operators, also when it is over.
ALERT_AFTER: Final = timedelta(seconds=30)
_EVERY_S: Final = 10.0
# Without one of these, no task delivers alerts.
_NEEDED_BY_TASKS: Final = frozenset({"control", "beat", "redis"})


def alert_failing_parts(parts: Iterable[FailingPart], now: datetime) -> None:
    """Alert operators once about each long outage of a part."""
    for part in parts:
        if (part.until or now) - part.since >= ALERT_AFTER:
            subject, text = _sentences(part)
            alert_once("stack.part_failed", subject, text, key=f"stack.part_failed {part.name} {part.since:%F %T}")


def _sentences(part: FailingPart) -> tuple[str, str]:
    since = f"{part.since:%H:%M:%S} UTC"
    if part.until is None:
        return (
            f"{part.name} does not start",
            f"Since {since}, {part.name} has ended right after each of its {part.failed_starts} starts. The supervisor "
            "tries again every 30 s. The output of `up` has the reason. The other processes continue.",
        )
    return (
        f"{part.name} did not start for a time",
        f"From {since} to {part.until:%H:%M:%S} UTC, {part.name} ended right after each of its {part.failed_starts} "
        "starts. It runs again. The output of `up` has the reason.",
    )


def part_watch() -> RepeatingThread:
    """Return the thread of a web process that alerts, because the workers may be what does not start."""
    beat = BeatWatch()

    def watch() -> None:
        try:
            watch_parts()
            beat.check()
        finally:
            connection.close()

    return RepeatingThread("part-watch", watch, _EVERY_S)


def watch_parts() -> None:
    """Store due alerts, and deliver them if the workers cannot."""
    parts = failing_parts()
    if not parts:
        return
    alert_failing_parts(parts, timezone.now())
    if any(part.until is None and part.name in _NEEDED_BY_TASKS for part in parts):
        deliver_due()
