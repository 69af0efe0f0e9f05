"""What one viewer of a stream saw: whether the numbers were 1..N once each, and how late each event was.

Cheap enough for a million events: numbers and times are picked out of the text, nothing is parsed as JSON.
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

# Every event has both, in whatever order; the text of an event must hold neither.
_SEQ = re.compile(rb'"seq": ?(\d+)')
_AT = re.compile(rb'"at": ?"([^"]+)"')
_COUNT = re.compile(rb'"count": ?(\d+)')
_END = re.compile(rb'"kind": ?"end"')
# Lags are counted in steps of this, so that those of many viewers can be added up.
STEP_MS = 0.1


@lru_cache(maxsize=100_000)
def _timestamp(at: bytes) -> float:
    # The same event comes to every viewer.
    return datetime.fromisoformat(at.decode()).timestamp()


@dataclass
class Seen:
    """What a viewer saw in the end.

    Attributes:
        events: distinct ones.
        repeats: events that it had already, or that came after a later one.
        gaps: numbers that were passed over.
        count: how many there are by the ``end`` event; None without one.
        last_at: when the last event came, in seconds since 1970.
    """

    events: int = 0
    repeats: int = 0
    gaps: int = 0
    last: int = 0
    count: int | None = None
    last_at: float = 0.0

    def is_exactly(self, count: int) -> bool:
        """Whether this is 1..count once each, in order, and the end that says so."""
        return (self.events, self.repeats, self.gaps, self.last, self.count) == (count, 0, 0, count, count)


class Tally:
    """Counts what one viewer gets.

    Args:
        lags: of all viewers of this process, in steps of ``STEP_MS``; added to here.
        since: events made before this are history to the viewer and not late, in seconds since 1970.
    """

    def __init__(self, lags: Counter[int], since: float = 0.0) -> None:
        self.seen = Seen()
        self.since = since
        self._lags = lags

    def take(self, text: bytes, now: float) -> bool:
        """Take whole events in, and say whether the end was among them.

        Args:
            text: JSON, or frames of an event stream.
            now: when it came, in seconds since 1970.
        """
        numbers = [int(number) for number in _SEQ.findall(text)]
        if numbers:
            self._number(numbers)
            self.seen.last_at = now
            made = [at for text_at in _AT.findall(text) if (at := _timestamp(text_at)) >= self.since]
            self._lags.update(round((now - at) * 1000 / STEP_MS) for at in made)
        if not _END.search(text):
            return False
        found = _COUNT.search(text)
        self.seen.count = int(found.group(1)) if found else None
        return True

    def _number(self, numbers: list[int]) -> None:
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
    """Give the smallest lag, ms, that at least ``percent`` of them do not exceed; not a number when there are none."""
    wanted = max(1, math.ceil(sum(lags.values()) * percent / 100))
    for step in sorted(lags):
        wanted -= lags[step]
        if wanted <= 0:
            return round(step * STEP_MS, 1)
    return math.nan


def lag_spread(lags: Mapping[int, int]) -> dict[str, float]:
    """Sum lags up, in milliseconds."""
    return {
        "n": sum(lags.values()),
        "p50": lag_percentile(lags, 50),
        "p99": lag_percentile(lags, 99),
        "max": lag_percentile(lags, 100),
    }


def to_json(seen: Iterable[Seen], lags: Mapping[int, int]) -> dict[str, Any]:
    """Put what a process of viewers found into one JSON value."""
    return {"seen": [asdict(one) for one in seen], "lags": {str(step): count for step, count in lags.items()}}


def from_json(value: dict[str, Any]) -> tuple[list[Seen], Counter[int]]:
    """Read that value."""
    return [Seen(**one) for one in value["seen"]], Counter({int(step): n for step, n in value["lags"].items()})
