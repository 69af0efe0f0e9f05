"""Health monitor: moves shards to the state that their heartbeats call for.

It uses only the database's clock and stored heartbeats. It may therefore run late, twice at once or not at all for a
while: it applies the rules of ``shards.health.rules`` to the present moment.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

import structlog
from django.conf import settings
from django.db import connection
from django.db.models import Q
from django.db.models.functions import Now

from myctobot.lib.clock import database_now
from shards.errors import WrongState
from shards.health.reachability import Reachability, ReachabilityMonitor
from shards.health.rules import Change, HealthInputs, next_state
from shards.lifecycle.states import DRAINING, READY, SUSPECT
from shards.lifecycle.transitions import transition
from shards.models import Shard
from shards.models.reachability import SHARDS_MONITOR
from shards.models.timeouts import FLAPPING_WITHIN, LOST_AFTER, SILENT_AFTER
from shards.monitoring.alerts import alert_once
from shards.monitoring.beat_alerts import BEAT_SILENT_AFTER, alert_silence

log = structlog.get_logger(__name__)

# A restart of the web process takes seconds. A longer outage alerts operators.
_ALERT_AFTER: Final = timedelta(seconds=30)
# An outage that is over alerts them from this length on.
_ALERT_IF_OVER_AFTER: Final = timedelta(minutes=10)

# One scan of all shards; the subqueries run only for the few candidates.
_CANDIDATES: Final = """
    SELECT shard.id, shard.name, shard.state, shard.state_since, shard.is_active, shard.last_heartbeat_at,
        shard.steady_since,
        EXISTS (SELECT FROM shards_operation WHERE shard_id = shard.id AND state IN ('queued', 'running')),
        shard.is_used AND EXISTS (SELECT FROM shards_pool WHERE id = shard.pool_id AND mode = 'ephemeral')
            OR EXISTS (SELECT FROM shards_closure WHERE shard_id = shard.id AND reopened_at IS NULL),
        (SELECT count(*) FROM shards_statechange WHERE shard_id = shard.id AND state = 'suspect' AND was = 'ready'
            AND at > statement_timestamp() - %(within)s),
        COALESCE(shard.report ->> 'sandbox_problem', '')
    FROM shards_shard AS shard
    WHERE CASE shard.state
        WHEN 'suspect' THEN true
        WHEN 'lost' THEN shard.last_heartbeat_at > statement_timestamp() - %(silent)s
        WHEN 'ready' THEN shard.is_active
            AND COALESCE(shard.last_heartbeat_at, shard.state_since) < statement_timestamp() - %(silent)s
        WHEN 'draining' THEN shard.is_active
            AND COALESCE(shard.last_heartbeat_at, shard.state_since) < statement_timestamp() - %(lost)s
        ELSE false END
    ORDER BY shard.id
"""
_monitor = ReachabilityMonitor(SHARDS_MONITOR)


class _Row(NamedTuple):
    id: int
    name: str
    state: str
    state_since: datetime
    is_active: bool
    last_heartbeat_at: datetime | None
    steady_since: datetime | None
    has_operation: bool
    must_drain: bool
    suspect_count: int
    sandbox_problem: str

    def inputs(self) -> HealthInputs:
        values = self._asdict()
        return HealthInputs(**{name: values[name] for name in HealthInputs.__dataclass_fields__})


def check_reachability() -> Reachability:
    """Check once whether shards can reach the control plane."""
    silent = Shard.objects.filter(
        is_active=True, state__in=(READY, SUSPECT, DRAINING), last_heartbeat_at__lt=Now() - SILENT_AFTER
    )
    return _monitor.check(has_silent_shards=silent.exists(), report=_alert_if_over)


def watch(reachability: Reachability) -> int:
    """Move every shard whose state has to change, and return their number.

    Args:
        reachability: result of ``check_reachability``.
    """
    now = database_now()
    _alert_if_unreachable(reachability, now)
    changes = [
        (row, change)
        for row in _candidates()
        if (change := next_state(row.inputs(), reachable_since=reachability.since, now=now)) is not None
    ]
    return sum(_move(row, change) for row, change in changes)


def _candidates() -> list[_Row]:
    bounds: dict[str, Any] = {"silent": SILENT_AFTER, "lost": LOST_AFTER, "within": FLAPPING_WITHIN}
    with connection.cursor() as cursor:
        cursor.execute(_CANDIDATES, bounds)
        return [_Row(*row) for row in cursor.fetchall()]


def _move(row: _Row, change: Change) -> bool:
    # A heartbeat, an operator or another monitor may have changed the row since it was read.
    expected = Q(state=row.state, last_heartbeat_at=row.last_heartbeat_at)
    if row.last_heartbeat_at is not None and change.to in (READY, DRAINING):
        # Further heartbeats do not contradict a return.
        expected = Q(state=row.state)
    try:
        return transition(Shard(pk=row.id, name=row.name), change.to, reason=change.reason, expected=expected)
    except (WrongState, Shard.DoesNotExist) as error:
        log.info("shard.move_refused", shard=row.name, reason=str(error))
        return False


def _alert_if_unreachable(reachability: Reachability, now: datetime) -> None:
    """Alert operators once about an outage of the control plane itself; shards keep their states."""
    since = reachability.unreachable_since
    if since is None or now - since < _ALERT_AFTER:
        return
    text = (
        f"Since {since:%H:%M:%S} UTC, no shard has sent a heartbeat, and {settings.SHARD_API_URL} has not answered the "
        "control plane. Check the process that listens there and the proxy before it. Until then shards keep their "
        "states, and running jobs are frozen."
    )
    alert_once("control.deaf", "Shards cannot reach the control plane", text, key=f"control.deaf {since.isoformat()}")


def _alert_if_over(reachability: Reachability) -> None:
    """Alert operators once about a long outage that is over, also when nothing ran during it that could alert."""
    ended, gap = reachability.ended, reachability.gap
    if ended is not None and ended.duration >= _ALERT_IF_OVER_AFTER:
        text = (
            f"From {ended.start:%F %T} to {ended.end:%F %T} UTC, no shard could report, or nothing checked that it "
            "can. PostgreSQL, the broker, beat, the control worker or the process of the shard API was down, or the "
            "whole control plane was stopped. Checks run again. Shards keep their states, and running jobs were "
            "frozen. If it was not stopped on purpose, the logs of that time have the reason."
        )
        subject = f"The control plane was away for {ended.duration.total_seconds() // 60:.0f} min"
        alert_once("control.away", subject, text, key=f"control.away {ended.start.isoformat()}")
    elif gap is not None and gap.duration >= BEAT_SILENT_AFTER:
        alert_silence(gap.start, until=gap.end)
