"""What a benchmark found: one line of JSON, and one row of the table in the docs."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Result:
    """What one benchmark found.

    Attributes:
        value: ours, in ``unit``; less is better.
        peer: the same of what we compare with, in the same run on the same machine.
        target: what ``value`` must not exceed.
        detail: all else, for whoever asks where the value comes from.
    """

    bench: str
    value: float
    unit: str
    peer: float
    target: float
    detail: dict[str, Any] = field(default_factory=dict)

    @property
    def ratio(self) -> float:
        """How many times the peer's value ours is."""
        return round(self.value / self.peer, 2)

    @property
    def met(self) -> bool:
        return self.value <= self.target

    def line(self) -> str:
        """The benchmark's one line on standard output."""
        shown = {"bench": self.bench, "value": self.value, "unit": self.unit, "peer": self.peer, "ratio": self.ratio}
        return json.dumps({**shown, "detail": {"target": self.target, **self.detail}})


def percentile(values: Sequence[float], percent: float) -> float:
    """Give the smallest of the values that at least ``percent`` of them do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def median(values: Sequence[float]) -> float:
    return round(statistics.median(values), 1)


def spread(values: Sequence[float]) -> dict[str, float]:
    """Sum a sample up; with fewer than a hundred values, p99 is the worst."""
    return {
        "n": len(values),
        "min": round(min(values), 1),
        "p50": median(values),
        "p99": round(percentile(values, 99), 1),
    }
