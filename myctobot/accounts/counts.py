"""Counters of login attempts: in Redis for all processes, and in the memory of one process."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

from limits.storage import RedisStorage, Storage
from redis import ConnectionPool
from redis.backoff import NoBackoff
from redis.retry import Retry

MAX_COUNTERS: Final = 100_000
# A login waits for Redis at most about twice this long, and then continues with the counters of its process.
_REDIS_TIMEOUT_S: Final = 1.0
_PREFIX: Final = "myctobot"


def redis_counts(url: str) -> Storage:
    """Return the counters in Redis; a call raises ``StorageError`` while Redis does not answer."""
    pool = ConnectionPool.from_url(
        url,
        socket_timeout=_REDIS_TIMEOUT_S,
        socket_connect_timeout=_REDIS_TIMEOUT_S,
        # A pooled connection may be older than the last restart of Redis.
        retry=Retry(NoBackoff(), 1),
    )
    return RedisStorage(url, connection_pool=pool, key_prefix=_PREFIX, wrap_exceptions=True)


class ProcessCounts(Storage):
    """Counters of one process.

    The library's own storage in memory is not safe for threads, and has no bound.

    Args:
        clock: returns the time in seconds.
        max_counters: number of counters; a full storage drops its oldest one.
    """

    STORAGE_SCHEME = None

    def __init__(self, clock: Callable[[], float] = time.time, max_counters: int = MAX_COUNTERS) -> None:
        super().__init__()
        self._clock, self._max_counters = clock, max_counters
        self._lock = threading.Lock()
        # Count and time of expiry. A dict keeps the order of insertion.
        self._counters: dict[str, tuple[int, float]] = {}

    @property
    def base_exceptions(self) -> type[Exception]:
        return ArithmeticError

    def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        """Add to a counter; a new one expires after ``expiry`` seconds."""
        with self._lock:
            count, expires_at = self._current(key)
            if not count:
                self._make_room()
                expires_at = self._clock() + expiry
            self._counters[key] = (count + amount, expires_at)
            return count + amount

    def get(self, key: str) -> int:
        """Return the value of a counter."""
        with self._lock:
            return self._current(key)[0]

    def get_expiry(self, key: str) -> float:
        """Return the time at which a counter expires, in seconds of the clock."""
        with self._lock:
            return self._current(key)[1]

    def check(self) -> bool:
        """Return true, because memory always answers."""
        return True

    def reset(self) -> int:
        """Drop all counters, and return their number."""
        with self._lock:
            count = len(self._counters)
            self._counters.clear()
            return count

    def clear(self, key: str) -> None:
        """Drop a counter."""
        with self._lock:
            self._counters.pop(key, None)

    def _current(self, key: str) -> tuple[int, float]:
        count, expires_at = self._counters.get(key, (0, 0.0))
        now = self._clock()
        if expires_at <= now:
            self._counters.pop(key, None)
            return 0, now
        return count, expires_at

    def _make_room(self) -> None:
        if len(self._counters) < self._max_counters:
            return
        now = self._clock()
        self._counters = {key: value for key, value in self._counters.items() if value[1] > now}
        if len(self._counters) >= self._max_counters:
            del self._counters[next(iter(self._counters))]
