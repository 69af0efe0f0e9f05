"""Alerts to operators, delivered from an outbox so that a crash neither loses nor repeats them."""

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

from myctobot.lib.sql import fetch_one
from shards.models import Shard, ShardState
from shards.monitoring.alert_rules import GATHER_FOR, MAX_SINGLE, REPEAT_AFTER, alert_text, group_text, next_pause_s
from shards.monitoring.channels import AlertChannel, DeliveryFailed, channels
from shards.monitoring.models import Alert

log = structlog.get_logger(__name__)

_BATCH_SIZE: Final = 20
# If the process dies during delivery, another one tries again after this time.
_CLAIMED_FOR: Final = timedelta(minutes=3)
_WATCHED: Final = (ShardState.READY, ShardState.SUSPECT, ShardState.LOST, ShardState.DRAINING)

_delivering = Lock()

# An undelivered alert with the same key is counted up. A recent delivery under the key delays the next one.
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
    """Store an alert in the present transaction; it is delivered after the commit.

    Args:
        kind: ``subject.event``, such as ``operation.failed``.
        subject: one line, such as ``Shard a is lost``.
        text: the event and its remedy, without secrets.
        key: identifies repetitions, which are sent at most every ten minutes with their number.
    """
    subject = " ".join(subject.split())[:200]
    key = key[:300] or f"{kind} {subject}"
    pauses = (GATHER_FOR.total_seconds(), key, REPEAT_AFTER.total_seconds())
    fetch_one(_ALERT, [key, kind[:40], subject, text.replace("\x00", "?"), *pauses])


def alert_once(kind: str, subject: str, text: str, *, key: str) -> None:
    """Store an alert unless one with this key exists."""
    if not Alert.objects.filter(key=key).exists():
        alert(kind, subject, text, key=key)


def deliver_due() -> int:
    """Deliver due alerts by every channel that lacks them, and return their number. Safe to run twice at once."""
    # One thread per process delivers, so that a slow channel does not block several threads.
    if not _delivering.acquire(blocking=False):
        return 0
    try:
        due = _claim_due()
        # After a failure, a channel is skipped for the rest of this batch.
        failed: dict[str, str] = {}
        for one in due:
            _deliver(one, channels(), failed)
        return len(due)
    finally:
        _delivering.release()


@transaction.atomic
def _claim_due() -> list[Alert]:
    live = Alert.objects.select_for_update(skip_locked=True).filter(ended_at=None)
    due = list(live.filter(due_at__lte=Now()).order_by("due_at", "pk")[:_BATCH_SIZE])
    retried = [one.pk for one in due if one.tries]
    kinds = {one.kind for one in due if not one.tries}
    # Include new alerts of the same kinds that only wait to be grouped.
    fresh = live.filter(tries=0, kind__in=kinds, ready_at__lte=Now() + GATHER_FOR).order_by("kind", "pk")
    first = [pk for _, same in groupby(fresh, attrgetter("kind")) for pk in _group(list(same), due)]
    claimed = Alert.objects.filter(pk__in=[*retried, *first])
    claimed.update(tries=F("tries") + 1, due_at=Now() + _CLAIMED_FOR)
    return list(claimed.order_by("pk"))


def _group(same: list[Alert], due: list[Alert]) -> list[int]:
    """Return the alerts of a kind to deliver now: the due ones, or one that represents many."""
    if len(same) <= MAX_SINGLE:
        return [one.pk for one in same if one in due]
    first, *others = same
    watched = Shard.objects.filter(is_active=True, state__in=_WATCHED).count()
    texts = [alert_text(one.text, one.count, one.created_at) for one in same]
    subject, text = group_text(first.kind, texts, watched)
    Alert.objects.filter(pk__in=[one.pk for one in others]).update(part_of=first, ended_at=Now())
    # The text already has the count.
    Alert.objects.filter(pk=first.pk).update(subject=subject[:200], text=text, count=1)
    return [first.pk]


def _deliver(one: Alert, by: Iterable[AlertChannel], failed: dict[str, str]) -> None:
    text = alert_text(one.text, one.count, one.created_at)
    failures: dict[str, str] = {}
    for channel in by:
        if channel.name in one.delivered:
            continue
        try:
            if channel.name in failed:
                raise DeliveryFailed(failed[channel.name])
            channel.send(one, text)
        except DeliveryFailed as problem:
            failures[channel.name] = failed[channel.name] = str(problem)[:300]
        else:
            # Store each delivery at once, so that a crash does not repeat it.
            one.delivered[channel.name] = timezone.now().isoformat()
            Alert.objects.filter(pk=one.pk).update(delivered=one.delivered)
    _store_result(one, failures)


def _store_result(one: Alert, failures: dict[str, str]) -> None:
    row = Alert.objects.filter(pk=one.pk)
    pause_s = next_pause_s(one.tries)
    if not failures:
        row.update(ended_at=Now(), failures={})
    elif pause_s is None:
        row.update(ended_at=Now(), failures=failures)
        log.error("alert.undelivered", alert=one.pk, subject=one.subject, failures=failures)
    else:
        row.update(due_at=Now() + timedelta(seconds=pause_s), failures=failures)
        log.warning("alert.delivery_failed", alert=one.pk, subject=one.subject, failures=failures)
