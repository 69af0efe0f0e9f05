"""Durations of dispatch rounds, counted in the broker by all processes together.

Control workers run the rounds and web processes export the metrics. PostgreSQL would have to write a row for each
round. Counters in the broker restart at zero with a new broker, and Prometheus handles such resets.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final, cast

from redis import Redis, RedisError

from jobs.broker import redis_client

# Upper bounds of the histogram's buckets, in seconds.
BUCKETS_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_KEY: Final = "myctobot:rounds"
_SECONDS, _SENT, _OVERFLOW = "seconds", "sent", "more"
# Rounds run up to twenty times a second, so their counts are written together.
_FLUSH_EVERY_S: Final = 1.0


@dataclass(frozen=True)
class RoundTimes:
    """Totals of all rounds.

    Attributes:
        buckets: number of rounds by histogram bucket; the last bucket has no upper bound.
        seconds: total duration.
        sent: number of attempts that were sent.
    """

    buckets: tuple[int, ...]
    seconds: float
    sent: int


class RoundClock:
    """Timer of rounds that adds its counts to those of other processes.

    Args:
        redis: returns the client of the broker.
        clock: monotonic seconds.
    """

    def __init__(self, redis: Callable[[], Redis], clock: Callable[[], float] = time.monotonic) -> None:
        self._redis, self._clock = redis, clock
        self._lock = threading.Lock()
        self._pending: Counter[str] = Counter()
        self._seconds = 0.0
        self._flush_at = float("-inf")

    @contextmanager
    def round(self) -> Iterator[Callable[[int], None]]:
        """Time the block; call the yielded function with the number of attempts that were sent."""
        began = self._clock()
        sent = 0

        def report_sent(number: int) -> None:
            nonlocal sent
            sent = number

        try:
            yield report_sent
        finally:
            self._add(self._clock() - began, sent)

    def _add(self, took_s: float, sent: int) -> None:
        at = bisect_left(BUCKETS_S, took_s)
        with self._lock:
            self._pending[str(at) if at < len(BUCKETS_S) else _OVERFLOW] += 1
            self._pending[_SENT] += sent
            self._seconds += took_s
            if self._clock() < self._flush_at:
                return
            self._flush_at = self._clock() + _FLUSH_EVERY_S
            pending, seconds = self._pending, self._seconds
            self._pending, self._seconds = Counter(), 0.0
        with suppress(RedisError):
            self._write(pending, seconds)

    def _write(self, pending: Mapping[str, int], seconds: float) -> None:
        with self._redis().pipeline(transaction=True) as pipe:
            for name, number in pending.items():
                pipe.hincrby(_KEY, name, number)
            pipe.hincrbyfloat(_KEY, _SECONDS, seconds)
            pipe.execute()

    def read(self) -> RoundTimes | None:
        """Return the totals of all processes; None when the broker cannot be reached."""
        try:
            stored = cast(dict[bytes, bytes], self._redis().hgetall(_KEY))
        except RedisError:
            return None
        found = {key.decode(): float(value) for key, value in stored.items()}
        buckets = tuple(int(found.get(str(at), 0)) for at in range(len(BUCKETS_S)))
        return RoundTimes((*buckets, int(found.get(_OVERFLOW, 0))), found.get(_SECONDS, 0.0), int(found.get(_SENT, 0)))


# Shared by all callers in this process.
round_clock = RoundClock(redis_client)
