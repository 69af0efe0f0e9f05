"""Delivery of callbacks: a few at a time, outside of any transaction, with a record of each attempt."""

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
from jobs.callbacks.backoff import is_gone, is_taken, next_pause_s
from jobs.callbacks.models import Callback, CallbackState, Delivery
from myctobot.contract.repositories import is_public_address
from myctobot.lib.clock import database_now
from myctobot.lib.crypto import CannotUnseal
from myctobot.lib.http_client import TIMEOUT_S, NotSent, Outgoing, OutgoingResponse

log = structlog.get_logger(__name__)

# Key of the advisory lock that lets one process deliver at a time ("call" in ASCII).
_LOCK = 0x63616C6C
# Maximum number of callbacks in a pass, in total and of one tenant, so that its dead endpoints do not delay others.
_MAX_AT_ONCE, _MAX_OF_TENANT = 40, 8
# Callbacks of a process that dies while sending are sent again after this time, with the same ids.
_LEASE = timedelta(seconds=3 * TIMEOUT_S)

_DUE = """
    SELECT id FROM (
        SELECT callback.id, row_number() OVER (PARTITION BY job.tenant_id ORDER BY callback.next_try_at) AS place
        FROM (SELECT * FROM jobs_callback WHERE state = 'waiting' AND next_try_at <= now()
              ORDER BY next_try_at LIMIT 1000) AS callback
        JOIN jobs_job job ON job.id = callback.job_id
    ) AS due WHERE place <= %s ORDER BY place, id LIMIT %s
"""


def deliver_due() -> int:
    """Send due callbacks and return their number. Return at once while another process delivers."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s)", [_LOCK])
        if not cursor.fetchone()[0]:
            return 0
    try:
        callbacks = _lease_due()
        if callbacks:
            _run(_send_all([(callback, _headers(callback)) for callback in callbacks]))
        return len(callbacks)
    finally:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_unlock(%s)", [_LOCK])


def redeliver(callback: Callback, *, by: str) -> None:
    """Schedule a callback for another delivery now, in any state, at a person's request."""
    Callback.objects.filter(pk=callback.pk).update(state=CallbackState.WAITING, next_try_at=Now())
    Delivery.objects.create(callback=callback, error="Requested again.", asked_by=by)


@transaction.atomic
def _lease_due() -> list[Callback]:
    with connection.cursor() as cursor:
        cursor.execute(_DUE, [_MAX_OF_TENANT, _MAX_AT_ONCE])
        keys = [key for (key,) in cursor.fetchall()]
    Callback.objects.filter(pk__in=keys).update(tries=F("tries") + 1, next_try_at=Now() + _LEASE)
    return list(Callback.objects.filter(pk__in=keys).select_related("job__tenant"))


def _headers(callback: Callback) -> dict[str, str] | NotSent:
    """Return the headers, or an error when the secret cannot be read, so that other callbacks are still sent."""
    try:
        headers = signing.headers(callback.job.tenant, callback.public_id, callback.body)
    except CannotUnseal:
        return NotSent("the signing secret cannot be decrypted any more; an admin can make a new one")
    return {**headers, "content-type": "application/json", "user-agent": "MyCTOBot"}


def _run(work: Coroutine[Any, Any, None]) -> None:
    """Run with a thread for each name lookup, so that a slow name server delays only its own callback."""
    loop = asyncio.new_event_loop()
    loop.set_default_executor(ThreadPoolExecutor(_MAX_AT_ONCE + 1))
    try:
        loop.run_until_complete(work)
    finally:
        # Unlike ``asyncio.run``, this does not wait for threads that still wait for a name server.
        loop.close()


async def _send_all(prepared: list[tuple[Callback, dict[str, str] | NotSent]]) -> None:
    answers = await asyncio.gather(*(_send(callback, headers) for callback, headers in prepared))
    for (callback, _), answer in zip(prepared, answers, strict=True):
        await asyncio.to_thread(_record_and_close, callback, answer)


async def _send(callback: Callback, headers: dict[str, str] | NotSent) -> OutgoingResponse | NotSent:
    if isinstance(headers, NotSent):
        return headers
    try:
        return await _outgoing().post(callback.job.callback_url, callback.body.encode(), headers)
    except NotSent as error:
        return error


@cache
def _outgoing() -> Outgoing:
    return Outgoing(is_public_address, settings.CALLBACK_PRIVATE_HOSTS, settings.CALLBACK_CA_FILE)


def _record_and_close(callback: Callback, answer: OutgoingResponse | NotSent) -> None:
    try:
        record(callback, answer)
    finally:
        connection.close()


@transaction.atomic
def record(callback: Callback, answer: OutgoingResponse | NotSent) -> None:
    """Record the result of a delivery, and schedule the next one if needed."""
    status = answer.status if isinstance(answer, OutgoingResponse) else None
    error = "" if status is not None and is_taken(status) else _error_text(answer)
    took_ms = answer.took_ms if isinstance(answer, OutgoingResponse) else 0
    Delivery.objects.create(callback=callback, status=status, error=error[:300], took_ms=took_ms)
    row = Callback.objects.filter(pk=callback.pk)
    if status is not None and is_taken(status):
        row.update(state=CallbackState.DELIVERED)
    elif status is not None and is_gone(status):
        row.update(state=CallbackState.DISABLED)
    else:
        age_s = (database_now() - callback.created_at).total_seconds()
        pause_s = next_pause_s(callback.tries, age_s, random.random())  # noqa: S311  # spreads load, needs no secrecy
        if pause_s is None:
            row.update(state=CallbackState.GIVEN_UP)
        else:
            row.update(next_try_at=Now() + timedelta(seconds=pause_s))
    log.info("callback.tried", callback=callback.public_id, kind=callback.kind, status=status, error=error or None)


def _error_text(answer: OutgoingResponse | NotSent) -> str:
    if isinstance(answer, NotSent):
        return str(answer)
    note = " (redirects are not followed)" if 300 <= answer.status < 400 else ""
    return f"The endpoint answered {answer.status}{note}."
