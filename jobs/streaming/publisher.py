"""Sends hints to the channel layer from whatever thread, without making it wait.

A writer must not stand still because Redis does. So hints go over a thread of their own, a few wait there at most, and
after a failure those that wait are dropped: viewers look into PostgreSQL by themselves.

Most jobs are watched by nobody. To seal a message and send it costs far more than to ask whether anybody listens,
which is asked for all that wait at once. Who begins to listen just afterwards reads what it missed from PostgreSQL,
where it was stored before.
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

MOST_WAITING = 1000
MOST_BYTES = 8 * 1024 * 1024
# A first hint leaves at once; those that follow so soon leave together, and sooner while somebody listens.
_GATHER_S, _GATHER_UNHEARD_S = 0.005, 0.02


def channel_layer() -> BaseChannelLayer:
    """The layer of the settings, which always name one."""
    layer = get_channel_layer()
    if layer is None:
        raise ImproperlyConfigured("CHANNEL_LAYERS has no default layer")
    return layer


class _Hint(NamedTuple):
    group: str
    message: dict[str, Any]
    size: int


class _Listeners:
    """Tells which groups anybody listens to.

    Args:
        layer: one that goes over Redis's subscriptions is asked there; of any other all are taken to be heard.
    """

    def __init__(self, layer: BaseChannelLayer) -> None:
        self._layer: Any = layer
        self._redis: Redis | None = None
        if isinstance(layer, RedisPubSubChannelLayer):
            self._redis = Redis.from_url(settings.REDIS_URL, socket_timeout=5, socket_connect_timeout=5)

    def of(self, groups: Iterable[str]) -> set[str]:
        """Those of some groups that somebody listens to. The thread waits: it has nothing else to do."""
        if self._redis is None:
            return {*groups}
        # The layer has no public name for it.
        channels = {self._layer._get_group_channel_name(group): group for group in groups}
        found: Any = self._redis.pubsub_numsub(*channels)
        return {channels[name.decode()] for name, listeners in found if listeners}

    def close(self) -> None:
        if self._redis is not None:
            self._redis.close()


class Publisher:
    """One thread with an event loop, which sends what waits in order; started by the first hint."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: deque[_Hint] = deque()
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
            self._waiting.append(_Hint(group, message, size))
            self._bytes += size
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=self._main, args=(self._loop,), name="hints", daemon=True).start()
            if len(self._waiting) == 1:
                self._loop.call_soon_threadsafe(self._wake.set)
        return True

    def _main(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            loop.run_until_complete(self._run())
        finally:
            # Whatever it was that ended the thread: the next hint starts another.
            with self._lock:
                self._loop, self._wake = None, asyncio.Event()
                self._forget()
            loop.close()

    async def _run(self) -> None:
        layer = channel_layer()
        listeners = _Listeners(layer)
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while hints := self._take():
                    heard = False
                    try:
                        heard = await self._send(layer, listeners, hints)
                    except (RedisError, OSError) as error:
                        log.warning("stream.hints_dropped", count=len(self._take()) + len(hints), error=str(error))
                    await asyncio.sleep(_GATHER_S if heard else _GATHER_UNHEARD_S)
        finally:
            listeners.close()

    async def _send(self, layer: BaseChannelLayer, listeners: _Listeners, hints: list[_Hint]) -> bool:
        """Send what somebody listens to; whether anybody does."""
        heard = listeners.of({hint.group for hint in hints})
        for hint in hints:
            if hint.group in heard:
                await layer.group_send(hint.group, hint.message)
        return bool(heard)

    def _take(self) -> list[_Hint]:
        with self._lock:
            hints = [*self._waiting]
            self._forget()
            return hints

    def _forget(self) -> None:
        self._waiting.clear()
        self._bytes = 0


_publishers: dict[int, Publisher] = {}


def publisher() -> Publisher:
    """This process's publisher; a forked child has one of its own."""
    pid = os.getpid()
    # setdefault is atomic: two threads at once get the same one.
    return _publishers.get(pid) or _publishers.setdefault(pid, Publisher())
