"""One watched job in one process: its window, its state, and the pages that viewers read together."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import structlog
from django.db import Error as DatabaseError

from jobs.events.encoding import Lines
from jobs.streaming.batch import Batch, End
from jobs.streaming.reader import JobState, read_batches, read_states
from jobs.streaming.subscription import Ear
from jobs.streaming.window import Window

log = structlog.get_logger(__name__)

# Pages that are kept for the viewers right behind; many who come at once read each page once.
_PAGES = 4
_PAGE_LIVES_S = 5.0


class Feed:
    """What this process knows of a job that somebody watches; made and ended by the hub.

    Attributes:
        ready: whether the job's state has been read since the subscription began.
        end: set once the job is over.
        gone: the job was deleted.
        heard_at: when a hint came last, or PostgreSQL was asked; monotonic seconds.
        missed: how often in a row PostgreSQL had something that no hint had brought.

    Args:
        ear: which listens for the job as long as there is a feed.
    """

    def __init__(self, job_pk: int, job_id: str, ear: Ear) -> None:
        self.job_pk, self.job_id = job_pk, job_id
        self._ear = ear
        # At once: a feed whose last viewer leaves before its task has begun must not take back what it never asked for.
        ear.want(job_id)
        self.viewers = 0
        self.window = Window()
        self.ready = self.gone = False
        self.end: End | None = None
        self.heard_at = time.monotonic()
        self.missed = 0
        self._pulse: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pages: dict[int, asyncio.Task[list[Batch]]] = {}
        self._look_wanted = asyncio.Event()
        self._task = asyncio.create_task(self._run())

    # --- For viewers ---------------------------------------------------------------------------------

    async def changed(self, timeout_s: float) -> bool:
        """Wait until anything is new, at most ``timeout_s`` seconds; return whether it is."""
        done, _ = await asyncio.wait({self._pulse}, timeout=timeout_s)
        return bool(done)

    async def page(self, after: int) -> list[Batch]:
        """Read on from PostgreSQL behind number ``after``; viewers at one place share one read.

        Returns:
            Nothing when the database could not answer, or has just dropped what was there: try again in a moment.
        """
        task = self._pages.get(after)
        if task is None:
            while len(self._pages) >= _PAGES:
                self._pages.pop(next(iter(self._pages)))
            task = self._pages[after] = asyncio.create_task(self._read(after))
        # One viewer that leaves must not end the read for the others.
        return await asyncio.shield(task)

    async def _read(self, after: int) -> list[Batch]:
        try:
            found = [Batch(lines) for lines in await read_batches(self.job_pk, after)]
        except DatabaseError as error:
            log.warning("stream.read_failed", job=self.job_id, error=str(error))
            found = []
        if found:
            # Only for those right behind: a page must not be held as long as somebody watches.
            asyncio.get_running_loop().call_later(_PAGE_LIVES_S, self._pages.pop, after, None)
        else:
            self._pages.pop(after, None)
        return found

    # --- What is new ---------------------------------------------------------------------------------

    def take(self, message: dict[str, Any]) -> None:
        """Handle a hint about the job."""
        self.heard_at, self.missed = time.monotonic(), 0
        if message["type"] == "job.changed":
            self._look_wanted.set()
        elif self._take_events(message):
            self._tell()

    def _take_events(self, message: dict[str, Any]) -> bool:
        if "lines" not in message:
            return self.window.advance(message["last_seq"])
        lines = tuple(message["lines"].split("\n"))
        return self.window.add(Lines(message["first_seq"], message["last_seq"], lines))

    def learn(self, state: JobState | None) -> None:
        """Take in what PostgreSQL says; None when the job is not there any more."""
        self.heard_at = time.monotonic()
        news = not self.ready
        if state is None:
            news = self.gone = True
        else:
            behind = self.window.advance(state.last_seq)
            self.missed = self.missed + 1 if behind and self.ready and self._ear.hears(self.job_id) else 0
            self.end = End(state.last_seq, state.status) if state.is_over else None
            news = news or behind or state.is_over
        self.ready = True
        # A quiet job is looked at every few seconds, and most looks find nothing: nobody need be woken for that.
        if news:
            self._tell()

    def _tell(self) -> None:
        pulse, self._pulse = self._pulse, asyncio.get_running_loop().create_future()
        pulse.set_result(None)

    async def _run(self) -> None:
        # The first look comes with the first hint, which the ear gives when it hears: what is new from there on is
        # announced. Without Redis nothing is, and the look comes all the same.
        if not await self._ear.join(self.job_id):
            self._look_wanted.set()
        while True:
            await self._look_wanted.wait()
            self._look_wanted.clear()
            try:
                self.learn((await read_states([self.job_pk])).get(self.job_pk))
            except DatabaseError as error:
                # The hub's own look comes in a moment.
                log.warning("stream.look_failed", job=self.job_id, error=str(error))

    async def close(self) -> None:
        """Listen and read no more."""
        for task in (self._task, *self._pages.values()):
            task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self._ear.leave(self.job_id)
