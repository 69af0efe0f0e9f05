"""Finds the shards whose silence or voice makes another state of them, and moves them there.

All by the database's clock and the heartbeats that are stored: it may run late, twice at once, or not at all for a
while, and what it then decides is what the rules in ``shards.health.rules`` say of that moment.
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
from shards.health.reachability import Heard, Hearing
from shards.health.rules import FLAPPING_WITHIN, LOST_AFTER, SILENT_AFTER, Change, Condition, next_state
from shards.lifecycle.states import DRAINING, READY, SUSPECT
from shards.lifecycle.transitions import move
from shards.models.shard import Shard
from shards.monitoring.alerts import alert_once

log = structlog.get_logger(__name__)

# A web process that is started or replaced is away for seconds; of a longer absence operators are told.
_DEAF_FOR: Final = timedelta(seconds=30)

# One look over all rows; the parts that ask other tables are asked of those few alone that may change.
_CANDIDATES: Final = """
    SELECT shard.id, shard.name, shard.state, shard.state_since, shard.is_active, shard.last_heartbeat_at,
        shard.steady_since,
        EXISTS (SELECT FROM shards_operation WHERE shard_id = shard.id AND state IN ('queued', 'running')),
        shard.is_used AND EXISTS (SELECT FROM shards_pool WHERE id = shard.pool_id AND mode = 'ephemeral')
            OR EXISTS (SELECT FROM shards_closure WHERE shard_id = shard.id AND reopened_at IS NULL),
        (SELECT count(*) FROM shards_statechange WHERE shard_id = shard.id AND state = 'suspect' AND was = 'ready'
            AND at > statement_timestamp() - %(within)s)
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
_hearing = Hearing()


class _Row(NamedTuple):
    id: int
    name: str
    state: str
    state_since: datetime
    is_active: bool
    last_heartbeat_at: datetime | None
    steady_since: datetime | None
    is_worked_on: bool
    must_drain: bool
    falls: int

    def condition(self) -> Condition:
        values = self._asdict()
        return Condition(**{name: values[name] for name in Condition.__dataclass_fields__})


def look() -> Heard:
    """Look once whether shards can be heard."""
    silent = Shard.objects.filter(
        is_active=True, state__in=(READY, SUSPECT, DRAINING), last_heartbeat_at__lt=Now() - SILENT_AFTER
    )
    return _hearing.look(somebody_is_silent=silent.exists())


def watch(heard: Heard) -> int:
    """Move every shard that has to be moved; returns how many were.

    Args:
        heard: see ``look``.
    """
    now = database_now()
    _tell_if_deaf(heard, now)
    changes = [(row, change) for row in _candidates() if (change := _decide(row, heard, now)) is not None]
    return sum(_move(row, change) for row, change in changes)


def _candidates() -> list[_Row]:
    bounds: dict[str, Any] = {"silent": SILENT_AFTER, "lost": LOST_AFTER, "within": FLAPPING_WITHIN}
    with connection.cursor() as cursor:
        cursor.execute(_CANDIDATES, bounds)
        return [_Row(*row) for row in cursor.fetchall()]


def _decide(row: _Row, heard: Heard, now: datetime) -> Change | None:
    return next_state(row.condition(), heard_since=heard.since, now=now)


def _move(row: _Row, change: Change) -> bool:
    # A heartbeat of this very moment, an operator or another watch may have been faster.
    seen = Q(state=row.state, last_heartbeat_at=row.last_heartbeat_at)
    if row.last_heartbeat_at is not None and change.to in (READY, DRAINING):
        # It goes on being heard of, which makes this no less right.
        seen = Q(state=row.state)
    try:
        return move(Shard(pk=row.id, name=row.name), change.to, reason=change.reason, only_if=seen)
    except (WrongState, Shard.DoesNotExist) as error:
        log.info("watch.not_moved", shard=row.name, why=str(error))
        return False


def _tell_if_deaf(heard: Heard, now: datetime) -> None:
    """Of an outage of our own operators are told once; no shard is blamed for it."""
    if heard.deaf_since is None or now - heard.deaf_since < _DEAF_FOR:
        return
    text = (
        f"No heartbeat of any shard comes, and {settings.CONTROL_URL} does not answer the control plane itself, since "
        f"{heard.deaf_since:%H:%M:%S} UTC. Look at the web process and at what is before it. Shards keep their states "
        "meanwhile, and what they run is frozen until they are answered."
    )
    alert_once("control.deaf", "Shards cannot be heard", text, key=f"control.deaf {heard.deaf_since.isoformat()}")
