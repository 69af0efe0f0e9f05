"""Whether a shard may be given work; pure."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from jobs.contract import HEARTBEAT_EVERY_S

# Three heartbeats: one may be lost, a second may be late.
SILENT_AFTER: Final = timedelta(seconds=3 * HEARTBEAT_EVERY_S)


def why_not_healthy(*, is_active: bool, state: str, last_heartbeat_at: datetime | None, now: datetime) -> str | None:
    """Say in a few words why a shard takes no job, or None when it does.

    Args:
        is_active: the operator's switch.
        state: a ``ShardState`` value.
        last_heartbeat_at: None when it has never been heard of.
        now: the database's clock.
    """
    if not is_active:
        return "switched off"
    if last_heartbeat_at is None:
        return "never heard of"
    if state != "ready":
        return str(state)
    if now - last_heartbeat_at > SILENT_AFTER:
        return f"silent since {last_heartbeat_at:%H:%M:%S} UTC"
    return None


def closed_phrase(verb: str, by: str, at: datetime, reason: str) -> str:
    """Say who closed something, when and why, e.g. ``draining since 12:03 UTC by anna: kernel update``."""
    return f"{verb} since {at:%H:%M} UTC by {by}: {reason}"
