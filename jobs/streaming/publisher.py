"""Publisher of notifications to the channel layer, callable from any thread without blocking it.

Writers must not wait for Redis. A separate thread sends the notifications from a bounded queue, and after a failure the
queued ones are dropped, because viewers read from PostgreSQL anyway.

Most jobs have no viewer, and encrypting and sending a message costs far more than a check for subscribers. The check
covers all queued messages at once. A viewer that subscribes later reads the stored events from PostgreSQL.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections import deque
from collections.abc import Iterable
from typing import Any, NamedTuple

import structlog
from channels.layers import BaseChannelLayer, get_channel_layer
from channels_redis.pubsub import RedisPubSubChannelLayer
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from redis import Redis, RedisError

log = structlog.get_logger(__name__)

MAX_WAITING = 1000
MAX_BYTES = 8 * 1024 * 1024
# The first notification is sent at once and later ones are gathered, for a shorter time while there are subscribers.
_GATHER_S, _GATHER_UNWATCHED_S = 0.005, 0.02


def channel_layer() -> BaseChannelLayer:
    """Return the layer of the settings, which always define one."""
    layer = get_channel_layer()
    if layer is None:
        raise ImproperlyConfigured("CHANNEL_LAYERS has no default layer")
    return layer


class _Notification(NamedTuple):
    group: str
    message: dict[str, Any]
    size: int


class _Subscribers:
    """Finds the groups that have subscribers.

    Args:
        layer: a layer over Redis is asked; every group of any other layer is assumed to have subscribers.
    """

    def __init__(self, layer: BaseChannelLayer) -> None:
        self._layer: Any = layer
        self._redis: Redis | None = None
        if isinstance(layer, RedisPubSubChannelLayer):
            self._redis = Redis.from_url(settings.REDIS_URL, socket_timeout=5, socket_connect_timeout=5)

    def subscribed(self, groups: Iterable[str]) -> set[str]:
        """Return the groups that have subscribers. Blocks, which is fine in the publisher's own thread."""
        if self._redis is None:
            return {*groups}
        # The layer has no public method that returns the channel's name.
        channels = {self._layer._get_group_channel_name(group): group for group in groups}
        found: Any = self._redis.pubsub_numsub(*channels)
        return {channels[name.decode()] for name, count in found if count}

    def close(self) -> None:
        if self._redis is not None:
            self._redis.close()


class Publisher:
    """Thread with an event loop that sends queued messages in order; the first message starts it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: deque[_Notification] = deque()
        self._bytes = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wake = asyncio.Event()

    def publish(self, group: str, message: dict[str, Any], size: int) -> bool:
        """Queue ``message`` for a group; return False when the queue is full and the message was dropped.

        Args:
            size: approximate number of bytes.
        """
        with self._lock:
            if len(self._waiting) >= MAX_WAITING or self._bytes + size > MAX_BYTES:
                return False
            self._waiting.append(_Notification(group, message, size))
            self._bytes += size
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=self._main, args=(self._loop,), name="notifications", daemon=True).start()
            if len(self._waiting) == 1:
                self._loop.call_soon_threadsafe(self._wake.set)
        return True

    def _main(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            loop.run_until_complete(self._run())
        finally:
            # The next message starts another thread, for any reason that ended this one.
            with self._lock:
                self._loop, self._wake = None, asyncio.Event()
                self._clear()
            loop.close()

    async def _run(self) -> None:
        layer = channel_layer()
        subscribers = _Subscribers(layer)
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while notifications := self._take_all():
                    watched = False
                    try:
                        watched = await self._send(layer, subscribers, notifications)
                    except (RedisError, OSError) as error:
                        dropped = len(self._take_all()) + len(notifications)
                        log.warning("stream.notifications_dropped", count=dropped, error=str(error))
                    await asyncio.sleep(_GATHER_S if watched else _GATHER_UNWATCHED_S)
        finally:
            subscribers.close()

    async def _send(
        self, layer: BaseChannelLayer, subscribers: _Subscribers, notifications: list[_Notification]
    ) -> bool:
        """Send the notifications of groups with subscribers; return whether there were any."""
        groups = subscribers.subscribed({one.group for one in notifications})
        for one in notifications:
            if one.group in groups:
                await layer.group_send(one.group, one.message)
        return bool(groups)

    def _take_all(self) -> list[_Notification]:
        with self._lock:
            notifications = [*self._waiting]
            self._clear()
            return notifications

    def _clear(self) -> None:
        self._waiting.clear()
        self._bytes = 0


_publishers: dict[int, Publisher] = {}


def publisher() -> Publisher:
    """Return this process's publisher; a forked child gets its own."""
    pid = os.getpid()
    # setdefault is atomic, so that two threads get the same publisher.
    return _publishers.get(pid) or _publishers.setdefault(pid, Publisher())
