"""Subscription of a process: one channel of the layer, which joins the group of each watched job."""

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

_TIMEOUT_S = 2.0
_RETRY_S = 1.0
# Raised by the layer when Redis is away; redis-py's own timeouts are RedisErrors.
_UNAVAILABLE = (RedisError, OSError, TimeoutError)


class Subscription:
    """Receives notifications about jobs.

    Args:
        on_notification: called with each notification. It is also called with a generated ``job.changed`` when a job
            is joined, because earlier notifications were missed.
    """

    def __init__(self, on_notification: Callable[[dict[str, Any]], None]) -> None:
        self._layer = channel_layer()
        self._on_notification = on_notification
        self._channel: str | None = None
        self._requested: Counter[str] = Counter()
        self._joined: set[str] = set()
        self._opened = asyncio.Event()
        # Serializes joins and leaves, so that a leave cannot undo a later join of the same group.
        self._lock = asyncio.Lock()
        self._receiving = asyncio.create_task(self._receive_all())

    def is_active(self, job_id: str) -> bool:
        """Tell whether the job's group is joined, as far as this process knows."""
        return job_id in self._joined

    def request(self, job_id: str) -> None:
        """Request a job's notifications until ``leave``; ``join`` starts them."""
        self._requested[job_id] += 1

    async def join(self, job_id: str) -> bool:
        """Join a requested job; return False when Redis is away, and keep trying in the background."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_TIMEOUT_S):
                await self._opened.wait()
        await self._adjust(job_id)
        return self.is_active(job_id)

    async def leave(self, job_id: str) -> None:
        """Withdraw one request for a job; the group is left with the last one."""
        self._requested[job_id] -= 1
        await self._adjust(job_id)

    async def close(self) -> None:
        """Leave all groups and the channel."""
        self._requested.clear()
        for job_id in list(self._joined):
            await self._adjust(job_id)
        # The layer releases the channel when the pending receive is cancelled.
        self._receiving.cancel()
        await asyncio.wait({self._receiving})

    async def reconnect(self) -> None:
        """Reconnect the layer, because its receiver can end or lose a subscription without an error."""
        async with self._lock:
            try:
                await self._layer.flush()
            except _UNAVAILABLE as error:
                log.warning("stream.layer_not_flushed", error=str(error))
            self._channel = None
            self._opened.clear()
            self._joined.clear()
        self._receiving.cancel()
        await asyncio.wait({self._receiving})
        self._receiving = asyncio.create_task(self._receive_all())

    async def _adjust(self, job_id: str) -> None:
        async with self._lock:
            # Without a channel no group can be joined, and earlier joins are lost.
            requested = self._requested[job_id] > 0
            if self._channel is None or requested == (job_id in self._joined):
                return
            try:
                async with asyncio.timeout(_TIMEOUT_S):
                    if requested:
                        await self._layer.group_add(group_name(job_id), self._channel)
                        self._joined.add(job_id)
                        self._on_notification({"type": "job.changed", "job": job_id})
                    else:
                        self._joined.discard(job_id)
                        await self._layer.group_discard(group_name(job_id), self._channel)
            except _UNAVAILABLE as error:
                log.warning("stream.not_subscribed", job=job_id, error=str(error) or type(error).__name__)

    async def _receive_all(self) -> None:
        channel = self._channel = await self._open()
        self._opened.set()
        joining = asyncio.create_task(self._join_all())
        try:
            while True:
                await self._receive(channel)
        finally:
            joining.cancel()

    async def _open(self) -> str:
        while True:
            try:
                async with asyncio.timeout(_TIMEOUT_S):
                    return await self._layer.new_channel()
            except _UNAVAILABLE as error:
                log.warning("stream.no_channel", error=str(error) or type(error).__name__)
                await asyncio.sleep(_RETRY_S)

    async def _join_all(self) -> None:
        """Join requested jobs again and again, because Redis may be away for a while."""
        while True:
            for job_id in [one for one, count in self._requested.items() if count > 0 and one not in self._joined]:
                await self._adjust(job_id)
            # Drop the counts of jobs that are no longer requested.
            self._requested = +self._requested
            await asyncio.sleep(_RETRY_S)

    async def _receive(self, channel: str) -> None:
        try:
            message = await self._layer.receive(channel)
        except InvalidToken:
            # Anyone who reaches Redis can publish there, but only the control plane has the encryption key.
            log.warning("stream.forged_notification")
        else:
            self._on_notification(message)
