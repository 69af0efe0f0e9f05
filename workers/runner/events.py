"""The runner's event stream: numbered without gaps, cleaned of secrets, posted in batches.

Every answer renews the lease and may ask for a cancel. While the control plane is silent the events
wait in a spool up to its bound; past it whoever emits has to wait, down to the agent's own output.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

from myctobot.contract.jobs import (
    RENEW_EVERY_S,
    SELF_STOP_S,
    Cleaner,
    Event,
    EventKind,
    EventsRequest,
    LeaseAnswer,
    Phase,
    bounded,
)
from workers.control_plane import ControlPlane, Fenced, Refused, Unreachable
from workers.runner.spool import Spool

# Events within this time of each other go in one batch.
_GATHER_S = 0.1
_BACKOFF_S = (0.5, 1.0, 2.0, 5.0)


class OrderBroken(Exception):
    """The control plane expects events that were confirmed before: its memory went back in time."""


class EventStream:
    """One attempt's events.

    Args:
        control: where they go.
        job_id: of the job.
        attempt: its number.
        claim_token: proves which runner this is.
        next_seq: number of the first event to come.
        cleaner: masks the secrets that this runner holds.
        spool: where events wait.
        on_silence: called once when nothing was heard for ``SELF_STOP_S``: the agent must not act any more.
        on_contact: called once when the attempt is confirmed again after that.
    """

    def __init__(
        self,
        control: ControlPlane,
        job_id: str,
        attempt: int,
        claim_token: str,
        next_seq: int,
        cleaner: Cleaner,
        spool: Spool,
        *,
        on_silence: Callable[[], Awaitable[None]],
        on_contact: Callable[[], Awaitable[None]],
    ) -> None:
        self._control, self._job_id, self._attempt, self._claim_token = control, job_id, attempt, claim_token
        self._next_seq = next_seq
        self._cleaner, self._waiting = cleaner, spool
        self._on_silence, self._on_contact = on_silence, on_contact
        self._phase: Phase = Phase.PREPARING
        self._wake = asyncio.Event()
        self._changed = asyncio.Condition()
        self._answers = 0
        self._in_flight = False
        self._heard_at = time.monotonic()
        self._silent = False
        self._failure: Exception | None = None
        self.cancel_wanted = asyncio.Event()

    @property
    def last_seq(self) -> int:
        """Number of the last event emitted."""
        return self._next_seq - 1

    async def emit(self, kind: EventKind, data: dict[str, Any]) -> None:
        """Add an event. Waits while too much is waiting to be posted."""
        while self._waiting.is_full and self._failure is None:
            async with self._changed:
                await self._changed.wait()
        name, data, text = bounded(kind.value, self._cleaner.clean(data))
        # No await from here on: numbers must follow the order of the queue.
        event = Event(seq=self._next_seq, at=datetime.now(UTC).isoformat(), kind=name, data=data)
        self._next_seq += 1
        self._waiting.append(event, len(text))
        self._wake.set()

    async def enter(self, phase: Phase, detail: str = "") -> None:
        """Say that the attempt has entered a phase."""
        self._phase = phase
        await self.emit(EventKind.PHASE, {"phase": phase.value, **({"detail": detail} if detail else {})})

    def poke(self) -> None:
        """Post now, to hear at once whether a cancel is wanted."""
        self._wake.set()

    async def confirm(self) -> None:
        """Return once everything is posted and the control plane has confirmed the attempt after this call.

        Raises:
            Fenced: the attempt is not the present one any more.
        """
        # The answer to a call that is under way may be older than this one.
        wanted = self._answers + (2 if self._in_flight else 1)
        self._wake.set()
        async with self._changed:
            await self._changed.wait_for(
                lambda: self._failure is not None or (self._answers >= wanted and not self._waiting)
            )
        if self._failure is not None:
            raise self._failure

    async def run(self) -> None:
        """Post until cancelled.

        Raises:
            Fenced: the attempt is not the present one any more.
            Refused, OrderBroken: the control plane takes no more events of it.
        """
        try:
            while True:
                await self._wait_for_work()
                await self._post(self._waiting.batch())
        except Exception as error:
            # Whatever ended the posting: who waits for a confirmation must not wait for ever.
            self._failure = error
            raise
        finally:
            async with self._changed:
                self._changed.notify_all()

    async def _wait_for_work(self) -> None:
        if not self._waiting:
            try:
                async with asyncio.timeout(RENEW_EVERY_S):
                    await self._wake.wait()
            except TimeoutError:
                return
            if self._waiting:
                await asyncio.sleep(_GATHER_S)
        self._wake.clear()

    async def _post(self, batch: list[Event]) -> None:
        first = batch[0]["seq"] if batch else self._next_seq
        request = EventsRequest(attempt=self._attempt, first_seq=first, events=batch, phase=self._phase.value)
        tries = 0
        while True:
            # A runner that was itself stopped for a while must not let its agent act before it has asked.
            await self._bear_silence()
            try:
                self._in_flight = True
                answer = await self._control.events(self._job_id, self._claim_token, request)
            except Unreachable:
                await self._bear_silence()
                await asyncio.sleep(_BACKOFF_S[min(tries, len(_BACKOFF_S) - 1)])
                tries += 1
            except Fenced:
                raise
            except Refused as refusal:
                if refusal.code == "out_of_order":
                    raise OrderBroken(str(refusal)) from refusal
                raise
            else:
                await self._take_answer(answer, len(batch))
                return

    async def _bear_silence(self) -> None:
        if not self._silent and time.monotonic() - self._heard_at >= SELF_STOP_S:
            self._silent = True
            await self._on_silence()

    async def _take_answer(self, answer: LeaseAnswer, posted: int) -> None:
        self._in_flight = False
        self._heard_at = time.monotonic()
        if answer["cancel"]:
            self.cancel_wanted.set()
        if self._silent:
            self._silent = False
            # One that is to be cancelled does not act again before it is ended.
            if not answer["cancel"]:
                await self._on_contact()
        self._waiting.drop(posted)
        self._answers += 1
        async with self._changed:
            self._changed.notify_all()
