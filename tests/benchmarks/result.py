"""Result of a benchmark: one line of JSON, and one row of the table in the docs."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


class CannotMeasure(Exception):
    """The machine lacks a requirement of a benchmark, which the message names."""


def within(value: float, bound: float, more_is_better: bool) -> bool:
    """Return True if a figure keeps its bound, which it may equal."""
    return value >= bound if more_is_better else value <= bound


@dataclass(frozen=True)
class Check:
    """Bound on a figure in addition to the benchmark's value.

    Attributes:
        what: the figure's name, such as ``web process's growth``.
        bound: the largest permitted ``value``, or the smallest where more is better.
    """

    what: str
    value: float
    bound: float
    unit: str
    more_is_better: bool = False

    @property
    def met(self) -> bool:
        return within(self.value, self.bound, self.more_is_better)

    def as_dict(self) -> dict[str, Any]:
        bound = "at_least" if self.more_is_better else "at_most"
        return {"what": self.what, "value": self.value, bound: self.bound, "unit": self.unit, "met": self.met}


@dataclass(frozen=True)
class Result:
    """Figures of one benchmark.

    Attributes:
        value: the figure of the product, in ``unit``.
        peer: the same figure of the software that we compare with, in the same run on the same machine.
        target: the largest permitted ``value``, or the smallest where more is better.
        detail: further figures that explain the value.
        more_is_better: True for a rate.
        checks: further bounds.
    """

    bench: str
    value: float
    unit: str
    peer: float
    target: float
    detail: dict[str, Any] = field(default_factory=dict)
    more_is_better: bool = False
    checks: Sequence[Check] = ()

    @property
    def ratio(self) -> float:
        """Our value divided by the peer's value."""
        return round(self.value / self.peer, 2)

    @property
    def met(self) -> bool:
        """True if the value and all checks keep their bounds."""
        return within(self.value, self.target, self.more_is_better) and all(check.met for check in self.checks)

    def line(self) -> str:
        """Return the benchmark's line for standard output."""
        figures = {"bench": self.bench, "value": self.value, "unit": self.unit, "peer": self.peer, "ratio": self.ratio}
        checks = {"checks": [check.as_dict() for check in self.checks]} if self.checks else {}
        return json.dumps({**figures, "detail": {"target": self.target, **checks, **self.detail}})

    def verdict(self) -> str:
        """Return a sentence on the target and on every check that is not met."""
        kept = within(self.value, self.target, self.more_is_better)
        parts = [f"{self.value:g} {self.unit} {'within' if kept else 'MISSES'} the target of {self.target:g}"]
        parts += [f"{check.what} MISSES: {json.dumps(check.as_dict())}" for check in self.checks if not check.met]
        return "; ".join(parts)


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the smallest of the values that at least ``percent`` of them do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def median(values: Sequence[float]) -> float:
    return round(statistics.median(values), 1)


def spread(values: Sequence[float]) -> dict[str, float]:
    """Summarize a sample; with fewer than a hundred values, p99 is the largest."""
    return {
        "n": len(values),
        "min": round(min(values), 1),
        "p50": median(values),
        "p99": round(percentile(values, 99), 1),
    }
