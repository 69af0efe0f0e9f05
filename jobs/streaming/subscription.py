"""One channel of the layer for all jobs that a process watches: each job's group is added to it and taken off it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import structlog
from cryptography.fernet import InvalidToken
from redis.exceptions import RedisError

from jobs.streaming.notify import group_name
from jobs.streaming.publisher import channel_layer

log = structlog.get_logger(__name__)

_WITHIN_S = 2.0
_AGAIN_S = 1.0
# What the layer raises when Redis is away; redis-py's own time-outs are RedisErrors.
_AWAY = (RedisError, OSError, TimeoutError)


class Ear:
    """Listens for hints about jobs.

    Args:
        take: called with each hint; also with a ``job.changed`` of our own whenever a job begins to be heard, for
            what was announced before that is missing.
    """

    def __init__(self, take: Callable[[dict[str, Any]], None]) -> None:
        self._layer = channel_layer()
        self._take = take
        self._channel: str | None = None
        self._wanted: Counter[str] = Counter()
        self._heard: set[str] = set()
        self._opened = asyncio.Event()
        # Joining and leaving go one by one: a group that is left while it is joined again must not stay silent.
        self._lock = asyncio.Lock()
        self._listening = asyncio.create_task(self._listen())

    def hears(self, job_id: str) -> bool:
        """Whether hints about the job come in, as far as is known here."""
        return job_id in self._heard

    def want(self, job_id: str) -> None:
        """Note that somebody wants hints about a job, until ``leave``; ``join`` gets them."""
        self._wanted[job_id] += 1

    async def join(self, job_id: str) -> bool:
        """Listen for a job that is wanted; False when Redis does not take it now: then it is tried again."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_WITHIN_S):
                await self._opened.wait()
        await self._adjust(job_id)
        return self.hears(job_id)

    async def leave(self, job_id: str) -> None:
        """Listen for a job no longer, unless somebody else has joined it meanwhile."""
        self._wanted[job_id] -= 1
        await self._adjust(job_id)

    async def close(self) -> None:
        """Listen for nothing any more."""
        self._wanted.clear()
        for job_id in list(self._heard):
            await self._adjust(job_id)
        # A wait at the channel that ends is what lets go of it.
        self._listening.cancel()
        await asyncio.wait({self._listening})

    async def listen_anew(self) -> None:
        """Make the layer's connection anew: its receiver can end, or lose a subscription, without a word."""
        async with self._lock:
            try:
                await self._layer.flush()
            except _AWAY as error:
                log.warning("stream.layer_not_flushed", error=str(error))
            self._channel = None
            self._opened.clear()
            self._heard.clear()
        self._listening.cancel()
        await asyncio.wait({self._listening})
        self._listening = asyncio.create_task(self._listen())

    async def _adjust(self, job_id: str) -> None:
        async with self._lock:
            # Without a channel nothing can be joined yet, and what was joined is gone.
            wanted = self._wanted[job_id] > 0
            if self._channel is None or wanted == (job_id in self._heard):
                return
            try:
                async with asyncio.timeout(_WITHIN_S):
                    if wanted:
                        await self._layer.group_add(group_name(job_id), self._channel)
                        self._heard.add(job_id)
                        self._take({"type": "job.changed", "job": job_id})
                    else:
                        self._heard.discard(job_id)
                        await self._layer.group_discard(group_name(job_id), self._channel)
            except _AWAY as error:
                log.warning("stream.not_subscribed", job=job_id, error=str(error) or type(error).__name__)

    async def _listen(self) -> None:
        channel = self._channel = await self._open()
        self._opened.set()
        joining = asyncio.create_task(self._join_all())
        try:
            while True:
                await self._hear(channel)
        finally:
            joining.cancel()

    async def _open(self) -> str:
        while True:
            try:
                async with asyncio.timeout(_WITHIN_S):
                    return await self._layer.new_channel()
            except _AWAY as error:
                log.warning("stream.not_listening", error=str(error) or type(error).__name__)
                await asyncio.sleep(_AGAIN_S)

    async def _join_all(self) -> None:
        """Go on until everything wanted is heard: Redis may be away for a while."""
        while True:
            for job_id in [one for one, count in self._wanted.items() if count > 0 and one not in self._heard]:
                await self._adjust(job_id)
            # Nobody's any more.
            self._wanted = +self._wanted
            await asyncio.sleep(_AGAIN_S)

    async def _hear(self, channel: str) -> None:
        try:
            message = await self._layer.receive(channel)
        except InvalidToken:
            # Whoever reaches Redis can publish there, but nobody else can seal.
            log.warning("stream.forged_hint")
        else:
            self._take(message)
