"""Sending callbacks: a few at a time, outside of any transaction, each try on record."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import cache
from typing import Any

import structlog
from django.conf import settings
from django.db import connection, transaction
from django.db.models import F
from django.db.models.functions import Now

from jobs.callbacks import signing
from jobs.callbacks.backoff import is_refused_for_good, is_taken, next_pause_s
from jobs.callbacks.models import Callback, CallbackState, Delivery
from myctobot.contract.jobs import is_public_address
from myctobot.lib.clock import database_now
from myctobot.lib.crypto import CannotUnseal
from myctobot.lib.http_client import TIMEOUT_S, Answer, NotSent, Outgoing

log = structlog.get_logger(__name__)

# The key of the advisory lock that lets one process send at a time ("call" in ASCII).
_LOCK = 0x63616C6C
# A round takes this many, and of one tenant so many: dead endpoints of one must not hold up the others.
_MOST, _MOST_OF_ONE = 40, 8
# Whoever is killed while sending has its callbacks sent again after this, under the same ids.
_HELD_FOR = timedelta(seconds=3 * TIMEOUT_S)

_DUE = """
    SELECT id FROM (
        SELECT callback.id, row_number() OVER (PARTITION BY job.tenant_id ORDER BY callback.next_try_at) AS place
        FROM (SELECT * FROM jobs_callback WHERE state = 'waiting' AND next_try_at <= now()
              ORDER BY next_try_at LIMIT 1000) AS callback
        JOIN jobs_job job ON job.id = callback.job_id
    ) AS due WHERE place <= %s ORDER BY place, id LIMIT %s
"""


def deliver_due() -> int:
    """Send what is due; returns how many were sent. One process at a time does so, others return at once."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s)", [_LOCK])
        if not cursor.fetchone()[0]:
            return 0
    try:
        callbacks = _take_due()
        if callbacks:
            _run(_send_all([(callback, _prepare(callback)) for callback in callbacks]))
        return len(callbacks)
    finally:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_unlock(%s)", [_LOCK])


def send_again(callback: Callback, *, by: str) -> None:
    """Have a callback sent once more now, whatever became of it before; a person asked for it."""
    Callback.objects.filter(pk=callback.pk).update(state=CallbackState.WAITING, next_try_at=Now())
    Delivery.objects.create(callback=callback, error="Asked for again.", asked_by=by)


@transaction.atomic
def _take_due() -> list[Callback]:
    with connection.cursor() as cursor:
        cursor.execute(_DUE, [_MOST_OF_ONE, _MOST])
        keys = [key for (key,) in cursor.fetchall()]
    Callback.objects.filter(pk__in=keys).update(tries=F("tries") + 1, next_try_at=Now() + _HELD_FOR)
    return list(Callback.objects.filter(pk__in=keys).select_related("job__tenant"))


def _prepare(callback: Callback) -> dict[str, str] | NotSent:
    """The headers; one tenant's secret that cannot be read is no reason to keep the others waiting."""
    try:
        headers = signing.headers(callback.job.tenant, callback.public_id, callback.body)
    except CannotUnseal:
        return NotSent("the signing secret cannot be opened any more; an admin can make a new one")
    return {**headers, "content-type": "application/json", "user-agent": "MyCTOBot"}


def _run(work: Coroutine[Any, Any, None]) -> None:
    """Names are looked up in threads. With one for each, a name server that does not answer holds up its own alone."""
    loop = asyncio.new_event_loop()
    loop.set_default_executor(ThreadPoolExecutor(_MOST + 1))
    try:
        loop.run_until_complete(work)
    finally:
        # Unlike ``asyncio.run`` this does not wait for threads that still wait for a name server.
        loop.close()


async def _send_all(prepared: list[tuple[Callback, dict[str, str] | NotSent]]) -> None:
    answers = await asyncio.gather(*(_send(callback, headers) for callback, headers in prepared))
    for (callback, _), answer in zip(prepared, answers, strict=True):
        await asyncio.to_thread(_record_and_close, callback, answer)


async def _send(callback: Callback, headers: dict[str, str] | NotSent) -> Answer | NotSent:
    if isinstance(headers, NotSent):
        return headers
    try:
        return await _outgoing().post(callback.job.callback_url, callback.body.encode(), headers)
    except NotSent as trouble:
        return trouble


@cache
def _outgoing() -> Outgoing:
    return Outgoing(is_public_address, settings.CALLBACK_PRIVATE_HOSTS, settings.CALLBACK_CA_FILE)


def _record_and_close(callback: Callback, answer: Answer | NotSent) -> None:
    try:
        record(callback, answer)
    finally:
        connection.close()


@transaction.atomic
def record(callback: Callback, answer: Answer | NotSent) -> None:
    """Write down what came of a try, and what comes next."""
    status = answer.status if isinstance(answer, Answer) else None
    error = "" if status is not None and is_taken(status) else _trouble(answer)
    took_ms = answer.took_ms if isinstance(answer, Answer) else 0
    Delivery.objects.create(callback=callback, status=status, error=error[:300], took_ms=took_ms)
    row = Callback.objects.filter(pk=callback.pk)
    if status is not None and is_taken(status):
        row.update(state=CallbackState.DELIVERED)
    elif status is not None and is_refused_for_good(status):
        row.update(state=CallbackState.DISABLED)
    else:
        age_s = (database_now() - callback.created_at).total_seconds()
        pause_s = next_pause_s(callback.tries, age_s, random.random())  # noqa: S311  # spreads load, keeps no secret
        if pause_s is None:
            row.update(state=CallbackState.GIVEN_UP)
        else:
            row.update(next_try_at=Now() + timedelta(seconds=pause_s))
    log.info("callback.tried", callback=callback.public_id, kind=callback.kind, status=status, error=error or None)


def _trouble(answer: Answer | NotSent) -> str:
    if isinstance(answer, NotSent):
        return str(answer)
    moved = " (redirects are not followed)" if 300 <= answer.status < 400 else ""
    return f"The endpoint answered {answer.status}{moved}."
