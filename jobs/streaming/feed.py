"""One watched job in one process: its subscription, its window, and the pages that viewers read together."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import structlog
from channels.layers import BaseChannelLayer
from cryptography.fernet import InvalidToken
from django.db import Error as DatabaseError
from redis.exceptions import RedisError

from jobs.event_lines import Lines
from jobs.streaming.batch import Batch, End
from jobs.streaming.notify import group_name
from jobs.streaming.publisher import channel_layer
from jobs.streaming.source import JobState, read_batches, read_states
from jobs.streaming.window import Window

log = structlog.get_logger(__name__)

_SUBSCRIBE_WITHIN_S = 2.0
_SUBSCRIBE_AGAIN_S = 1.0
# Pages that are kept for the viewers right behind; many who come at once read each page once.
_PAGES = 4


class Feed:
    """What this process knows of a job that somebody watches; made and ended by the hub.

    Attributes:
        ready: whether the job's state has been read since the subscription began.
        end: set once the job is over.
        gone: the job was deleted.
        heard_at: when a hint came last, or PostgreSQL was asked; monotonic seconds.
        missed: how often in a row PostgreSQL had something that no hint had brought.
    """

    def __init__(self, job_pk: int, job_id: str) -> None:
        self.job_pk, self.job_id = job_pk, job_id
        self.viewers = 0
        self.window = Window()
        self.ready = self.gone = self.subscribed = False
        self.end: End | None = None
        self.heard_at = time.monotonic()
        self.missed = 0
        self._pulse: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pages: dict[int, asyncio.Task[list[Batch]]] = {}
        self._look_wanted = asyncio.Event()
        self._tasks = [asyncio.create_task(self._listen()), asyncio.create_task(self._look_when_wanted())]

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
        if not found:
            self._pages.pop(after, None)
        return found

    # --- What is new ---------------------------------------------------------------------------------

    def take(self, message: dict[str, Any]) -> None:
        """Handle one message of the job's group; one of another job was put there by somebody else."""
        if message["job"] != self.job_id:
            log.warning("stream.foreign_hint", job=self.job_id)
            return
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
        if state is None:
            self.gone = True
        else:
            behind = self.window.advance(state.last_seq)
            self.missed = self.missed + 1 if behind and self.ready and self.subscribed else 0
            self.end = End(state.last_seq, state.status) if state.is_over else None
        self.ready = True
        self._tell()

    def _tell(self) -> None:
        pulse, self._pulse = self._pulse, asyncio.get_running_loop().create_future()
        pulse.set_result(None)

    async def _look_when_wanted(self) -> None:
        while True:
            await self._look_wanted.wait()
            self._look_wanted.clear()
            try:
                self.learn((await read_states([self.job_pk])).get(self.job_pk))
            except DatabaseError as error:
                # The hub's own look comes in a moment.
                log.warning("stream.look_failed", job=self.job_id, error=str(error))

    # --- The subscription ----------------------------------------------------------------------------

    async def _listen(self) -> None:
        layer = channel_layer()
        while True:
            channel = await self._subscribe(layer)
            # Read only now: what comes from here on is announced. Without Redis as well.
            self._look_wanted.set()
            if channel is None:
                await asyncio.sleep(_SUBSCRIBE_AGAIN_S)
                continue
            try:
                while True:
                    await self._hear(layer, channel)
            finally:
                self.subscribed = False
                await self._unsubscribe(layer, channel)

    async def _hear(self, layer: BaseChannelLayer, channel: str) -> None:
        try:
            message = await layer.receive(channel)
        except InvalidToken:
            # Whoever reaches Redis can publish there, but nobody else can seal.
            log.warning("stream.forged_hint", job=self.job_id)
        else:
            self.take(message)

    async def _subscribe(self, layer: BaseChannelLayer) -> str | None:
        channel = None
        try:
            async with asyncio.timeout(_SUBSCRIBE_WITHIN_S):
                channel = await layer.new_channel()
                await layer.group_add(group_name(self.job_id), channel)
        except (RedisError, OSError, TimeoutError) as error:
            log.warning("stream.not_subscribed", job=self.job_id, error=str(error) or type(error).__name__)
            if channel:
                await self._unsubscribe(layer, channel)
            return None
        self.subscribed = True
        return channel

    async def _unsubscribe(self, layer: BaseChannelLayer, channel: str) -> None:
        try:
            async with asyncio.timeout(_SUBSCRIBE_WITHIN_S):
                await layer.group_discard(group_name(self.job_id), channel)
        except (RedisError, OSError, TimeoutError) as error:
            log.warning("stream.not_unsubscribed", job=self.job_id, error=str(error) or type(error).__name__)
        # Of both layers of channels-redis, and of the one in memory.
        if channel in layer.channels:  # type: ignore[attr-defined]  # see above
            # A channel is let go of by ending a wait at it, and by nothing else.
            waiting = asyncio.ensure_future(layer.receive(channel))
            await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.wait({waiting}, timeout=_SUBSCRIBE_WITHIN_S)

    def listen_anew(self) -> None:
        """Subscribe once more; the layer has forgotten the present subscription."""
        self._tasks[0].cancel()
        self._tasks[0] = asyncio.create_task(self._listen())

    async def close(self) -> None:
        """End the subscription."""
        for task in [*self._tasks, *self._pages.values()]:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
