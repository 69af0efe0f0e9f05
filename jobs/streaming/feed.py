"""Feed of one watched job in one process: its window, its state, and the pages that viewers share."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import structlog
from django.db import Error as DatabaseError

from jobs.events.encoding import EventBlock
from jobs.streaming.batch import Batch, End
from jobs.streaming.reader import JobState, read_batches, read_states
from jobs.streaming.subscription import Subscription
from jobs.streaming.window import Window

log = structlog.get_logger(__name__)

# Pages that are kept for viewers at the same position, so that each page is read once for all of them.
_PAGES = 4
_KEEP_PAGE_S = 5.0


class Feed:
    """State of a watched job in this process; created and closed by the hub.

    Attributes:
        ready: the job's state has been read since the subscription started.
        end: set when the job has ended.
        gone: the job was deleted.
        updated_at: time of the last notification or read from PostgreSQL, in monotonic seconds.
        missed: number of consecutive reads that found events without a notification.

    Args:
        subscription: receives the job's notifications as long as the feed exists.
    """

    def __init__(self, job_pk: int, job_id: str, subscription: Subscription) -> None:
        self.job_pk, self.job_id = job_pk, job_id
        self._subscription = subscription
        # Request here and not in the task, because the last viewer may leave before the task has started.
        subscription.request(job_id)
        self.viewers = 0
        self.window = Window()
        self.ready = self.gone = False
        self.end: End | None = None
        self.updated_at = time.monotonic()
        self.missed = 0
        self._changed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pages: dict[int, asyncio.Task[list[Batch]]] = {}
        self._read_requested = asyncio.Event()
        self._task = asyncio.create_task(self._run())

    # --- For viewers ---------------------------------------------------------------------------------

    async def changed(self, timeout_s: float) -> bool:
        """Wait for a change for at most ``timeout_s`` seconds; return whether there was one."""
        done, _ = await asyncio.wait({self._changed}, timeout=timeout_s)
        return bool(done)

    async def page(self, after: int) -> list[Batch]:
        """Read the events after number ``after`` from PostgreSQL; viewers at the same position share one read.

        Returns:
            Batches; empty when the database did not answer or has just dropped the events: try again shortly.
        """
        task = self._pages.get(after)
        if task is None:
            while len(self._pages) >= _PAGES:
                self._pages.pop(next(iter(self._pages)))
            task = self._pages[after] = asyncio.create_task(self._read(after))
        # Shielded, so that a viewer who leaves does not cancel the read of the others.
        return await asyncio.shield(task)

    async def _read(self, after: int) -> list[Batch]:
        try:
            found = [Batch(lines) for lines in await read_batches(self.job_pk, after)]
        except DatabaseError as error:
            log.warning("stream.read_failed", job=self.job_id, error=str(error))
            found = []
        if found:
            # Pages are dropped soon, because only viewers at nearly the same position reuse them.
            asyncio.get_running_loop().call_later(_KEEP_PAGE_S, self._pages.pop, after, None)
        else:
            self._pages.pop(after, None)
        return found

    # --- Changes -------------------------------------------------------------------------------------

    def on_notification(self, message: dict[str, Any]) -> None:
        """Handle a notification about the job."""
        self.updated_at, self.missed = time.monotonic(), 0
        if message["type"] == "job.changed":
            self._read_requested.set()
        elif self._add_events(message):
            self.wake_viewers()

    def _add_events(self, message: dict[str, Any]) -> bool:
        if "lines" not in message:
            return self.window.advance(message["last_seq"])
        lines = tuple(message["lines"].split("\n"))
        return self.window.add(EventBlock(message["first_seq"], message["last_seq"], lines))

    def apply_state(self, state: JobState | None) -> None:
        """Apply the state that was read from PostgreSQL; None when the job no longer exists."""
        self.updated_at = time.monotonic()
        is_new = not self.ready
        if state is None:
            is_new = self.gone = True
        else:
            behind = self.window.advance(state.last_seq)
            self.missed = self.missed + 1 if behind and self.ready and self._subscription.is_active(self.job_id) else 0
            self.end = End(state.last_seq, state.status) if state.is_over else None
            is_new = is_new or behind or state.is_over
        self.ready = True
        # Quiet jobs are read every few seconds, so wake the viewers only for changes.
        if is_new:
            self.wake_viewers()

    def wake_viewers(self) -> None:
        """End each wait for a change."""
        changed, self._changed = self._changed, asyncio.get_running_loop().create_future()
        changed.set_result(None)

    async def _run(self) -> None:
        # A successful subscription sends a first notification, which requests the read. Every later event is announced.
        if not await self._subscription.join(self.job_id):
            self._read_requested.set()
        while True:
            await self._read_requested.wait()
            self._read_requested.clear()
            try:
                self.apply_state((await read_states([self.job_pk])).get(self.job_pk))
            except DatabaseError as error:
                # The hub reads the state again soon.
                log.warning("stream.state_not_read", job=self.job_id, error=str(error))

    async def close(self) -> None:
        """Stop reading and leave the subscription."""
        for task in (self._task, *self._pages.values()):
            task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self._subscription.leave(self.job_id)
