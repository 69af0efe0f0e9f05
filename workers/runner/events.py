"""Event stream of a runner: numbered without gaps, without secrets, posted in batches.

Every answer renews the lease and may request a cancel. While the control plane does not answer, events wait in a spool.
When the spool is full, ``emit`` blocks, and with it the agent's output.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

from myctobot.contract.jobs import Event, EventKind, Phase, truncate_event
from myctobot.contract.limits import RENEW_EVERY_S, SELF_STOP_S
from myctobot.contract.redaction import Redactor
from myctobot.contract.runner import EventsRequest, LeaseAnswer
from workers.control_plane import AttemptFenced, CallRefused, ControlPlane, ControlPlaneUnreachable
from workers.runner.spool import Spool

# Events within this time go into one batch.
_GATHER_S = 0.1
_BACKOFF_S = (0.5, 1.0, 2.0, 5.0)


class SequenceReset(Exception):
    """Control plane expects events that it confirmed before, such as after its database was restored."""


class EventStream:
    """Events of one attempt.

    Args:
        control: client that posts the events.
        job_id: job of the attempt.
        attempt: number of the attempt.
        claim_token: proves which runner this is.
        next_seq: number of the first event.
        redactor: masks the secrets that this runner has.
        spool: holds the events until they are posted.
        on_silence: called once when there was no answer for ``SELF_STOP_S``, because the agent must stop then.
        on_contact: called once when the attempt is confirmed again after that.
    """

    def __init__(
        self,
        control: ControlPlane,
        job_id: str,
        attempt: int,
        claim_token: str,
        next_seq: int,
        redactor: Redactor,
        spool: Spool,
        *,
        on_silence: Callable[[], Awaitable[None]],
        on_contact: Callable[[], Awaitable[None]],
    ) -> None:
        self._control, self._job_id, self._attempt, self._claim_token = control, job_id, attempt, claim_token
        self._next_seq = next_seq
        self._redactor, self._waiting = redactor, spool
        self._on_silence, self._on_contact = on_silence, on_contact
        self._phase: Phase = Phase.PREPARING
        self._wake = asyncio.Event()
        self._changed = asyncio.Condition()
        self._answers = 0
        self._in_flight = False
        self._last_answer_at = time.monotonic()
        self._silent = False
        self._failure: Exception | None = None
        self.cancel_requested = asyncio.Event()

    @property
    def last_seq(self) -> int:
        """Number of the last emitted event."""
        return self._next_seq - 1

    async def emit(self, kind: EventKind, data: dict[str, Any]) -> None:
        """Add an event; wait while the spool is full."""
        while self._waiting.is_full and self._failure is None:
            async with self._changed:
                await self._changed.wait()
        name, data, text = truncate_event(kind.value, self._redactor.redact(data))
        # Do not await from here on, because numbers must follow the order of the spool.
        event = Event(seq=self._next_seq, at=datetime.now(UTC).isoformat(), kind=name, data=data)
        self._next_seq += 1
        self._waiting.append(event, len(text))
        self._wake.set()

    async def enter(self, phase: Phase, detail: str = "") -> None:
        """Emit that the attempt has entered a phase."""
        self._phase = phase
        await self.emit(EventKind.PHASE, {"phase": phase.value, **({"detail": detail} if detail else {})})

    def wake(self) -> None:
        """Post now, so that the answer says whether a cancel is requested."""
        self._wake.set()

    async def confirm(self) -> None:
        """Wait until everything is posted and the control plane has confirmed the attempt after this call began.

        Raises:
            AttemptFenced: the attempt is no longer the job's current one.
        """
        # A request in flight was sent before this call, so its answer does not confirm anything new.
        wanted = self._answers + (2 if self._in_flight else 1)
        self._wake.set()
        async with self._changed:
            await self._changed.wait_for(
                lambda: self._failure is not None or (self._answers >= wanted and not self._waiting)
            )
        if self._failure is not None:
            raise self._failure

    async def run(self) -> None:
        """Post events until this task is cancelled.

        Raises:
            AttemptFenced: the attempt is no longer the job's current one.
            CallRefused, SequenceReset: the control plane accepts no more events of this attempt.
        """
        try:
            while True:
                await self._wait_for_work()
                await self._post(self._waiting.batch())
        except Exception as error:
            # Keep the error, so that callers who wait for a confirmation do not wait for ever.
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
            # This process may have been stopped itself. Its agent must not act before an answer arrives.
            await self._freeze_if_silent()
            try:
                self._in_flight = True
                answer = await self._control.events(self._job_id, self._claim_token, request)
            except ControlPlaneUnreachable:
                await self._freeze_if_silent()
                await asyncio.sleep(_BACKOFF_S[min(tries, len(_BACKOFF_S) - 1)])
                tries += 1
            except AttemptFenced:
                raise
            except CallRefused as refusal:
                if refusal.code == "out_of_order":
                    raise SequenceReset(str(refusal)) from refusal
                raise
            else:
                await self._handle_answer(answer, len(batch))
                return

    async def _freeze_if_silent(self) -> None:
        if not self._silent and time.monotonic() - self._last_answer_at >= SELF_STOP_S:
            self._silent = True
            await self._on_silence()

    async def _handle_answer(self, answer: LeaseAnswer, posted: int) -> None:
        self._in_flight = False
        self._last_answer_at = time.monotonic()
        if answer["cancel"]:
            self.cancel_requested.set()
        if self._silent:
            self._silent = False
            # An agent that will be cancelled must not act again.
            if not answer["cancel"]:
                await self._on_contact()
        self._waiting.drop(posted)
        self._answers += 1
        async with self._changed:
            self._changed.notify_all()
