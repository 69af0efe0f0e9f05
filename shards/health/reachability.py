"""Reachability of the control plane for shards, remembered in the database; see ``shards.health.outage``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import httpx
from django.conf import settings
from django.db import transaction
from django.db.models.functions import Now

from myctobot.lib.clock import database_now
from shards.health.outage import OutageTracker, PastOutage
from shards.models import ReachabilityRecord, Shard
from shards.models.timeouts import SILENT_AFTER

_TIMEOUT_S: Final = 2.0


@dataclass(frozen=True)
class Reachability:
    """Result of a check.

    Attributes:
        since: start of the present time without an outage.
        unreachable_since: start of the present outage: no heartbeat arrives and the shard API does not answer.
        ended: outage that this check saw to be over; the next check does not return it again.
        gap: time before this check without any other, also if shards reported during it.
    """

    since: datetime
    unreachable_since: datetime | None = None
    ended: PastOutage | None = None
    gap: PastOutage | None = None


class ReachabilityMonitor:
    """Series of checks that continues across processes; several processes may check at once.

    Args:
        name: name of the series. Each has its own proof that no check of the web process is needed.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def check(self, *, has_silent_shards: bool, report: Callable[[Reachability], None] | None = None) -> Reachability:
        """Check once.

        Args:
            has_silent_shards: if False, heartbeats prove reachability and no request is sent.
            report: called with the result in the transaction that stores it, so that no crash loses an ended outage.
        """
        answers = not has_silent_shards or is_reachable()
        with transaction.atomic():
            record = ReachabilityRecord.objects.select_for_update().filter(monitor=self._name).first()
            before = OutageTracker(record.since, record.checked_at, record.unreachable_since) if record else None
            now = database_now()
            was_heard = before is not None and before.has_gap(now) and _reports_since(before.last)
            after = OutageTracker.after_check(before, now, web_answers=answers, was_heard=was_heard)
            values = {
                "since": after.since,
                "checked_at": after.last,
                "unreachable_since": after.unreachable_since,
            }
            # Two processes may create the row of a new installation at once.
            ReachabilityRecord.objects.update_or_create(monitor=self._name, defaults=values)
            result = Reachability(
                after.since,
                after.unreachable_since,
                before.outage_until(now, web_answers=answers, was_heard=was_heard) if before else None,
                before.gap_until(now) if before else None,
            )
            if report is not None:
                report(result)
        return result


def _reports_since(moment: datetime) -> bool:
    """Tell whether a shard has reported since then without a silence, so the shard API worked all the time."""
    reports = Shard.objects.filter(steady_since__lte=moment, last_heartbeat_at__gt=Now() - SILENT_AFTER)
    return reports.exists()


def is_reachable() -> bool:
    """Tell whether a recent heartbeat arrived or the process of the shard API answers."""
    if Shard.objects.filter(last_heartbeat_at__gt=Now() - SILENT_AFTER).exists():
        return True
    try:
        response = httpx.get(f"{settings.SHARD_API_URL}/healthz", timeout=_TIMEOUT_S, trust_env=False)
    except httpx.HTTPError:
        return False
    return response.is_success
