"""What a benchmark found: one line of JSON, and one row of the table in the docs."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


class CannotMeasure(Exception):
    """This machine lacks what a benchmark needs; the message says what."""


def within(value: float, bound: float, more_is_better: bool) -> bool:
    """Whether a figure keeps its bound, which it may just reach."""
    return value >= bound if more_is_better else value <= bound


@dataclass(frozen=True)
class Check:
    """A promise beside the one on the benchmark's own value.

    Attributes:
        what: the figure's name, such as ``web process's growth``.
        bound: what ``value`` must not exceed, or fall below where more is better.
    """

    what: str
    value: float
    bound: float
    unit: str
    more_is_better: bool = False

    @property
    def met(self) -> bool:
        return within(self.value, self.bound, self.more_is_better)

    def shown(self) -> dict[str, Any]:
        bound = "at_least" if self.more_is_better else "at_most"
        return {"what": self.what, "value": self.value, bound: self.bound, "unit": self.unit, "met": self.met}


@dataclass(frozen=True)
class Result:
    """What one benchmark found.

    Attributes:
        value: ours, in ``unit``.
        peer: the same of what we compare with, in the same run on the same machine.
        target: what ``value`` must not exceed, or fall below where more is better.
        detail: all else, for whoever asks where the value comes from.
        more_is_better: as for what is done in a second.
        checks: what else must hold.
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
        """How many times the peer's value ours is."""
        return round(self.value / self.peer, 2)

    @property
    def met(self) -> bool:
        """Whether the value and all checks keep their bounds."""
        return within(self.value, self.target, self.more_is_better) and all(check.met for check in self.checks)

    def line(self) -> str:
        """The benchmark's one line on standard output."""
        shown = {"bench": self.bench, "value": self.value, "unit": self.unit, "peer": self.peer, "ratio": self.ratio}
        checks = {"checks": [check.shown() for check in self.checks]} if self.checks else {}
        return json.dumps({**shown, "detail": {"target": self.target, **checks, **self.detail}})

    def verdict(self) -> str:
        """Say what became of the target and of every check that is not met."""
        kept = within(self.value, self.target, self.more_is_better)
        said = [f"{self.value:g} {self.unit} {'within' if kept else 'MISSES'} the target of {self.target:g}"]
        said += [f"{check.what} MISSES: {json.dumps(check.shown())}" for check in self.checks if not check.met]
        return "; ".join(said)


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
