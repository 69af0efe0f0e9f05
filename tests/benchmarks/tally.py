"""Count of the events that one viewer received, and of their lags.

Numbers and times are found by regular expressions, because parsing JSON would be too slow for a million events.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

# Every event has both fields in any order, and the text of a test event contains neither pattern.
_SEQ = re.compile(rb'"seq": ?(\d+)')
_AT = re.compile(rb'"at": ?"([^"]+)"')
_COUNT = re.compile(rb'"count": ?(\d+)')
_END = re.compile(rb'"kind": ?"end"')
# Lags are rounded to this step, so that the counts of many viewers can be added.
STEP_MS = 0.1


@lru_cache(maxsize=100_000)
def _timestamp(at: bytes) -> float:
    # The cache helps because every viewer receives the same events.
    return datetime.fromisoformat(at.decode()).timestamp()


@dataclass
class Received:
    """Events that one viewer received.

    Attributes:
        events: number of distinct events.
        repeats: number of events that were received twice or after a later one.
        gaps: number of skipped numbers.
        last: the highest number.
        count: number of events according to the ``end`` event; None without one.
        last_at: time at which the last event was received, in seconds since 1970.
    """

    events: int = 0
    repeats: int = 0
    gaps: int = 0
    last: int = 0
    count: int | None = None
    last_at: float = 0.0

    def is_exactly(self, count: int) -> bool:
        """Return True if the numbers 1..count came once each, in order, and the ``end`` event confirms the count."""
        return (self.events, self.repeats, self.gaps, self.last, self.count) == (count, 0, 0, count, count)


class Tally:
    """Counter of the events of one viewer.

    Args:
        lags: the counts of lags of all viewers of this process, in steps of ``STEP_MS``; this viewer adds to them.
        since: time in seconds since 1970; older events are history for this viewer and have no lag.
    """

    def __init__(self, lags: Counter[int], since: float = 0.0) -> None:
        self.seen = Received()
        self.since = since
        self._lags = lags

    def add(self, text: bytes, now: float) -> bool:
        """Count whole events, and return True if the end was among them.

        Args:
            text: JSON, or frames of an event stream.
            now: time at which the text was received, in seconds since 1970.
        """
        numbers = [int(number) for number in _SEQ.findall(text)]
        if numbers:
            self._count_numbers(numbers)
            self.seen.last_at = now
            made = [at for text_at in _AT.findall(text) if (at := _timestamp(text_at)) >= self.since]
            self._lags.update(round((now - at) * 1000 / STEP_MS) for at in made)
        if not _END.search(text):
            return False
        found = _COUNT.search(text)
        self.seen.count = int(found.group(1)) if found else None
        return True

    def _count_numbers(self, numbers: list[int]) -> None:
        seen = self.seen
        if numbers == list(range(seen.last + 1, seen.last + 1 + len(numbers))):
            seen.events += len(numbers)
            seen.last = numbers[-1]
            return
        for number in numbers:
            if number <= seen.last:
                seen.repeats += 1
            else:
                seen.gaps += number - seen.last - 1
                seen.events += 1
                seen.last = number


def lag_percentile(lags: Mapping[int, int], percent: float) -> float:
    """Return the smallest lag in ms that at least ``percent`` of them do not exceed; NaN when there are none."""
    wanted = max(1, math.ceil(sum(lags.values()) * percent / 100))
    for step in sorted(lags):
        wanted -= lags[step]
        if wanted <= 0:
            return round(step * STEP_MS, 1)
    return math.nan


def lag_spread(lags: Mapping[int, int]) -> dict[str, float]:
    """Summarize lags, in milliseconds."""
    return {
        "n": sum(lags.values()),
        "p50": lag_percentile(lags, 50),
        "p99": lag_percentile(lags, 99),
        "max": lag_percentile(lags, 100),
    }


def to_json(seen: Iterable[Received], lags: Mapping[int, int]) -> dict[str, Any]:
    """Return the counts of a process of viewers as one JSON value."""
    return {"seen": [asdict(one) for one in seen], "lags": {str(step): count for step, count in lags.items()}}


def from_json(value: dict[str, Any]) -> tuple[list[Received], Counter[int]]:
    """Return the counts from that JSON value."""
    return [Received(**one) for one in value["seen"]], Counter({int(step): n for step, n in value["lags"].items()})
