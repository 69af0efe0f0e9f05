"""Sends hints to the channel layer from whatever thread, without making it wait.

A writer must not stand still because Redis does. So hints go over a thread of their own, a few wait there at most, and
after a failure those that wait are dropped: viewers look into PostgreSQL by themselves.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections import deque
from typing import Any

import structlog
from channels.layers import BaseChannelLayer, get_channel_layer
from django.core.exceptions import ImproperlyConfigured
from redis.exceptions import RedisError

log = structlog.get_logger(__name__)

MOST_WAITING = 1000
MOST_BYTES = 8 * 1024 * 1024


def channel_layer() -> BaseChannelLayer:
    """The layer of the settings, which always name one."""
    layer = get_channel_layer()
    if layer is None:
        raise ImproperlyConfigured("CHANNEL_LAYERS has no default layer")
    return layer


class Publisher:
    """One thread with an event loop, which sends what waits in order; started by the first hint."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: deque[tuple[str, dict[str, Any], int]] = deque()
        self._bytes = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wake = asyncio.Event()

    def publish(self, group: str, message: dict[str, Any], size: int) -> bool:
        """Send ``message`` to a group soon; False when too much waits already and it was dropped.

        Args:
            size: about how many bytes it has.
        """
        with self._lock:
            if len(self._waiting) >= MOST_WAITING or self._bytes + size > MOST_BYTES:
                return False
            self._waiting.append((group, message, size))
            self._bytes += size
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=self._main, args=(self._loop,), name="hints", daemon=True).start()
            self._loop.call_soon_threadsafe(self._wake.set)
        return True

    def _main(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            loop.run_until_complete(self._run())
        finally:
            # Whatever it was that ended the thread: the next hint starts another.
            with self._lock:
                self._loop, self._wake = None, asyncio.Event()
            loop.close()

    async def _run(self) -> None:
        layer = channel_layer()
        while True:
            await self._wake.wait()
            self._wake.clear()
            while (item := self._take()) is not None:
                try:
                    await layer.group_send(item[0], item[1])
                except (RedisError, OSError) as error:
                    log.warning("stream.hints_dropped", count=self._drop() + 1, error=str(error))

    def _take(self) -> tuple[str, dict[str, Any], int] | None:
        with self._lock:
            if not self._waiting:
                return None
            item = self._waiting.popleft()
            self._bytes -= item[2]
            return item

    def _drop(self) -> int:
        with self._lock:
            count = len(self._waiting)
            self._waiting.clear()
            self._bytes = 0
            return count


_publishers: dict[int, Publisher] = {}


def publisher() -> Publisher:
    """This process's publisher; a forked child has one of its own."""
    pid = os.getpid()
    # setdefault is atomic: two threads at once get the same one.
    return _publishers.get(pid) or _publishers.setdefault(pid, Publisher())
