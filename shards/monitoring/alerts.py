"""What operators are told: an outbox in the database, so that nothing is told twice and nothing is lost in a crash."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from itertools import groupby
from operator import attrgetter
from threading import Lock
from typing import Final

import structlog
from django.db import transaction
from django.db.models import F
from django.db.models.functions import Now
from django.utils import timezone

from myctobot.lib.sql import one_row
from shards.models.shard import Shard, ShardState
from shards.monitoring.alert_rules import AT_MOST_EVERY, GATHER_FOR, MOST_SINGLE, next_pause_s, told, told_together
from shards.monitoring.channels import Channel, NotTaken, channels
from shards.monitoring.models import Alert

log = structlog.get_logger(__name__)

_MOST_AT_ONCE: Final = 20
# Whoever is killed while it tells has it told again after this.
_HELD_FOR: Final = timedelta(minutes=3)
_WATCHED: Final = (ShardState.READY, ShardState.SUSPECT, ShardState.LOST, ShardState.DRAINING)

_telling = Lock()

# What waits under the same key is counted there; what was told of lately waits its time.
_ALERT: Final = """
    INSERT INTO shards_alert AS alert (key, kind, subject, text, count, created_at, ready_at, due_at, tries, delivered,
        failures)
    SELECT %s, %s, %s, %s, 1, statement_timestamp(), ready.at, ready.at, 0, '{}', '{}'
    FROM (SELECT GREATEST(
        statement_timestamp() + make_interval(secs => %s),
        (SELECT max(ready_at) FROM shards_alert WHERE key = %s) + make_interval(secs => %s)
    ) AS at) AS ready
    ON CONFLICT (key) WHERE tries = 0 AND ended_at IS NULL DO UPDATE
        SET count = alert.count + 1, subject = EXCLUDED.subject, text = EXCLUDED.text
    RETURNING id
"""


def alert(kind: str, subject: str, text: str, *, key: str = "") -> None:
    """Have operators told of something, in the present transaction: it is told when that is committed.

    Args:
        kind: ``subject.happening``, such as ``operation.failed``.
        subject: one line, such as ``Shard a is lost``.
        text: what happened and what may be done; no secret.
        key: what is the same thing again; it is told of once in ten minutes at most, with how often it was.
    """
    subject = " ".join(subject.split())[:200]
    key = key[:300] or f"{kind} {subject}"
    pauses = (GATHER_FOR.total_seconds(), key, AT_MOST_EVERY.total_seconds())
    one_row(_ALERT, [key, kind[:40], subject, text.replace("\x00", "?"), *pauses])


def alert_once(kind: str, subject: str, text: str, *, key: str) -> None:
    """As ``alert``, unless there was one with this key already."""
    if not Alert.objects.filter(key=key).exists():
        alert(kind, subject, text, key=key)


def tell_due() -> int:
    """Tell what is due by every channel that did not take it yet; returns how many. It may run twice at once."""
    # A channel that answers slowly takes one thread of this process, not one after the other.
    if not _telling.acquire(blocking=False):
        return 0
    try:
        due = _take_due()
        # A channel that is away holds up a round once, not once an alert.
        away: dict[str, str] = {}
        for one in due:
            _tell(one, channels(), away)
        return len(due)
    finally:
        _telling.release()


@transaction.atomic
def _take_due() -> list[Alert]:
    live = Alert.objects.select_for_update(skip_locked=True).filter(ended_at=None)
    due = list(live.filter(due_at__lte=Now()).order_by("due_at", "pk")[:_MOST_AT_ONCE])
    again = [one.pk for one in due if one.tries]
    kinds = {one.kind for one in due if not one.tries}
    # With what is due go those of its kind that wait for nothing but company.
    fresh = live.filter(tries=0, kind__in=kinds, ready_at__lte=Now() + GATHER_FOR).order_by("kind", "pk")
    first = [pk for _, same in groupby(fresh, attrgetter("kind")) for pk in _gathered(list(same), due)]
    taken = Alert.objects.filter(pk__in=[*again, *first])
    taken.update(tries=F("tries") + 1, due_at=Now() + _HELD_FOR)
    return list(taken.order_by("pk"))


def _gathered(same: list[Alert], due: list[Alert]) -> list[int]:
    """Of alerts of a kind, those that are told now: those that are due, or one that tells of all."""
    if len(same) <= MOST_SINGLE:
        return [one.pk for one in same if one in due]
    first, *others = same
    watched = Shard.objects.filter(is_active=True, state__in=_WATCHED).count()
    texts = [told(one.text, one.count, one.created_at) for one in same]
    subject, text = told_together(first.kind, texts, watched)
    Alert.objects.filter(pk__in=[one.pk for one in others]).update(part_of=first, ended_at=Now())
    # Its own count is in the text now.
    Alert.objects.filter(pk=first.pk).update(subject=subject[:200], text=text, count=1)
    return [first.pk]


def _tell(one: Alert, by: Iterable[Channel], away: dict[str, str]) -> None:
    text = told(one.text, one.count, one.created_at)
    failures: dict[str, str] = {}
    for channel in by:
        if channel.name in one.delivered:
            continue
        try:
            if channel.name in away:
                raise NotTaken(away[channel.name])
            channel.send(one, text)
        except NotTaken as problem:
            failures[channel.name] = away[channel.name] = str(problem)[:300]
        else:
            # At once, channel by channel: a crash must not have one told again because another had its turn after it.
            one.delivered[channel.name] = timezone.now().isoformat()
            Alert.objects.filter(pk=one.pk).update(delivered=one.delivered)
    _conclude(one, failures)


def _conclude(one: Alert, failures: dict[str, str]) -> None:
    row = Alert.objects.filter(pk=one.pk)
    pause_s = next_pause_s(one.tries)
    if not failures:
        row.update(ended_at=Now(), failures={})
    elif pause_s is None:
        row.update(ended_at=Now(), failures=failures)
        log.error("alert.given_up", alert=one.pk, subject=one.subject, failures=failures)
    else:
        row.update(due_at=Now() + timedelta(seconds=pause_s), failures=failures)
        log.warning("alert.not_taken", alert=one.pk, subject=one.subject, failures=failures)
