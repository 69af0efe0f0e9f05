"""How long dispatch rounds take: counted by the processes that make them, together, in the broker.

Rounds are made by control workers and metrics are told by web processes. PostgreSQL would have to write a row for each
round; of counts that begin anew with a new broker Prometheus makes the best.
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

# Upper bounds of the histogram's buckets, in seconds.
BUCKETS_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_KEY: Final = "myctobot:rounds"
_SECONDS, _SENT, _MORE = "seconds", "sent", "more"
# Rounds come up to twenty times a second; they are told together.
_TELL_EVERY_S: Final = 1.0


@dataclass(frozen=True)
class RoundTimes:
    """Rounds so far.

    Attributes:
        buckets: rounds by the bucket that they fall into; those of the last one took longer than all bounds.
        seconds: that they took together.
        sent: attempts that they sent.
    """

    buckets: tuple[int, ...]
    seconds: float
    sent: int


class RoundClock:
    """Times rounds, and adds them to what other processes have told.

    Args:
        redis: the broker.
        clock: seconds that only grow.
    """

    def __init__(self, redis: Callable[[], Redis], clock: Callable[[], float] = time.monotonic) -> None:
        self._redis, self._clock = redis, clock
        self._lock = threading.Lock()
        self._untold: Counter[str] = Counter()
        self._seconds = 0.0
        self._tell_at = float("-inf")

    @contextmanager
    def round(self) -> Iterator[Callable[[int], None]]:
        """Time what is done here; call what it gives with the number of attempts that were sent."""
        began = self._clock()
        sent = 0

        def tell(number: int) -> None:
            nonlocal sent
            sent = number

        try:
            yield tell
        finally:
            self._add(self._clock() - began, sent)

    def _add(self, took_s: float, sent: int) -> None:
        at = bisect_left(BUCKETS_S, took_s)
        with self._lock:
            self._untold[str(at) if at < len(BUCKETS_S) else _MORE] += 1
            self._untold[_SENT] += sent
            self._seconds += took_s
            if self._clock() < self._tell_at:
                return
            self._tell_at = self._clock() + _TELL_EVERY_S
            untold, seconds = self._untold, self._seconds
            self._untold, self._seconds = Counter(), 0.0
        with suppress(RedisError):
            self._write(untold, seconds)

    def _write(self, untold: Mapping[str, int], seconds: float) -> None:
        with self._redis().pipeline(transaction=True) as pipe:
            for name, number in untold.items():
                pipe.hincrby(_KEY, name, number)
            pipe.hincrbyfloat(_KEY, _SECONDS, seconds)
            pipe.execute()

    def read(self) -> RoundTimes | None:
        """What all processes have told; None when the broker cannot be reached."""
        try:
            told = cast(dict[bytes, bytes], self._redis().hgetall(_KEY))
        except RedisError:
            return None
        found = {key.decode(): float(value) for key, value in told.items()}
        buckets = tuple(int(found.get(str(at), 0)) for at in range(len(BUCKETS_S)))
        return RoundTimes((*buckets, int(found.get(_MORE, 0))), found.get(_SECONDS, 0.0), int(found.get(_SENT, 0)))
