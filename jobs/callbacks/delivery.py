"""Delivery of callbacks: continuous, with slots for tenants and hosts, and with a record of each attempt."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import cache
from typing import Final, TypeVar

import structlog
from django.conf import settings
from django.db import connection, connections, transaction
from django.db.models.functions import Now

from jobs.callbacks import signing
from jobs.callbacks.backoff import is_gone, is_taken, next_pause_s, retry_after_s
from jobs.callbacks.due import DueReader, adopt, lease
from jobs.callbacks.models import Callback, CallbackState, Delivery
from jobs.callbacks.slots import MAX_DELIVERIES, DeliverySlots, DueCallback
from myctobot.contract.addresses import is_public_address
from myctobot.lib.clock import database_now
from myctobot.lib.crypto import CannotUnseal
from myctobot.lib.http_client import NotSent, Outgoing, OutgoingResponse

log = structlog.get_logger(__name__)

T = TypeVar("T")

# Key of the advisory lock that lets one process deliver at a time ("call" in ASCII). Leases protect each callback too.
_LOCK: Final = 0x63616C6C
# Due callbacks are read this often while deliveries are under way.
_READ_EVERY_S: Final = 0.25
# A delivery that ends causes a read at once, but reads take at most a quarter of the time.
_READ_PAUSE_S: Final = 0.05
_READ_SHARE: Final = 3
# Passes that find nothing, in one run: a tenant with very many hosts must not keep the database busy.
_MAX_EMPTY_PASSES: Final = 4

_stopping = threading.Event()
# Kept between runs, so that the hosts of a tenant with many of them are read in turns. The lock protects it.
_reader = DueReader()


def stop_delivering() -> None:
    """Start no further delivery in this process, because it shuts down; those under way end within seconds."""
    _stopping.set()


def deliver_due() -> int:
    """Send due callbacks until none is due or under way, and return their number.

    Callbacks that become due in this time are sent too. Return at once while another process delivers.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s)", [_LOCK])
        if not cursor.fetchone()[0]:
            return 0
    try:
        return _run(_Deliverer(_reader))
    finally:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_unlock(%s)", [_LOCK])


class _Deliverer:
    """Deliveries that are under way. One thread does all work in the database, in turn."""

    def __init__(self, reader: DueReader) -> None:
        self._slots = DeliverySlots()
        self._reader = reader
        self._read_took_s = 0.0
        self._deliveries: set[asyncio.Task[None]] = set()
        self._database = ThreadPoolExecutor(1, thread_name_prefix="callbacks-database")

    async def run(self) -> int:
        sent = empty_passes = 0
        try:
            while True:
                started = 0 if _stopping.is_set() else await self._start_due()
                sent, empty_passes = sent + started, 0 if started else empty_passes + 1
                if self._deliveries:
                    await asyncio.wait(self._deliveries, timeout=_READ_EVERY_S, return_when=asyncio.FIRST_COMPLETED)
                    await asyncio.sleep(max(_READ_PAUSE_S, _READ_SHARE * self._read_took_s))
                elif self._reader.is_complete or _stopping.is_set() or empty_passes == _MAX_EMPTY_PASSES:
                    return sent
        finally:
            for delivery in self._deliveries:
                delivery.cancel()
            await asyncio.gather(*self._deliveries, return_exceptions=True)
            await self._in_database(connections.close_all)
            self._database.shutdown(wait=False)

    async def _start_due(self) -> int:
        """Start deliveries as far as slots are free, and return their number."""
        if self._slots.free == 0:
            return 0
        due = await self._in_database(self._read)
        chosen = {callback.key: callback for callback in self._slots.choose(due)}
        leased = await self._in_database(lambda: lease(chosen.values())) if chosen else []
        for row in leased:
            delivery = asyncio.create_task(self._deliver(chosen.pop(row.pk), row))
            self._deliveries.add(delivery)
            delivery.add_done_callback(self._deliveries.discard)
        for callback in chosen.values():
            # Another process sends it, or it is not due any more.
            self._slots.release(callback, succeeded=None)
        return len(leased)

    def _read(self) -> list[DueCallback]:
        began = time.monotonic()
        adopt()
        due = self._reader.read(self._slots.has_free_slot)
        self._read_took_s = time.monotonic() - began
        return due

    async def _deliver(self, callback: DueCallback, row: Callback) -> None:
        succeeded: bool | None = None
        try:
            headers = await self._in_database(lambda: _headers(row))
            answer = await _send(row, headers)
            await self._in_database(lambda: record(row, answer))
            succeeded = isinstance(answer, OutgoingResponse) and (is_taken(answer.status) or is_gone(answer.status))
        except Exception:
            # One callback must not end the delivery of the others. Its lease ends, and then it is sent again.
            log.exception("callback.delivery_failed", callback=row.public_id)
            await self._in_database(connections.close_all)
        finally:
            self._slots.release(callback, succeeded=succeeded)

    async def _in_database(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._database, work)


def redeliver(callback: Callback, *, by: str) -> None:
    """Schedule a callback for another delivery now, in any state, at a person's request."""
    Callback.objects.filter(pk=callback.pk).update(state=CallbackState.WAITING, next_try_at=Now())
    Delivery.objects.create(callback=callback, error="Requested again.", asked_by=by)


def _headers(callback: Callback) -> dict[str, str] | NotSent:
    """Return the headers, or an error when the secret cannot be read, so that other callbacks are still sent."""
    try:
        headers = signing.headers(callback.job.tenant, callback.public_id, callback.body)
    except CannotUnseal:
        return NotSent("the signing secret cannot be decrypted any more; an admin can make a new one")
    return {**headers, "content-type": "application/json", "user-agent": "MyCTOBot"}


def _run(deliverer: _Deliverer) -> int:
    """Run with a thread for each name lookup, so that a slow name server delays only its own callback."""
    loop = asyncio.new_event_loop()
    loop.set_default_executor(ThreadPoolExecutor(MAX_DELIVERIES, thread_name_prefix="callbacks-names"))
    try:
        return loop.run_until_complete(deliverer.run())
    finally:
        # Unlike ``asyncio.run``, this does not wait for threads that still wait for a name server.
        loop.close()


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
        now = database_now()
        age_s = (now - callback.created_at).total_seconds()
        asked_s = (
            retry_after_s(answer.status, answer.retry_after, now) if isinstance(answer, OutgoingResponse) else None
        )
        jitter = random.random()  # noqa: S311  # spreads load, needs no secrecy
        pause_s = next_pause_s(callback.tries, age_s, jitter, asked_s)
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
