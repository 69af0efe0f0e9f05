"""A small line chart as numbers, ready to be drawn as SVG. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Final

WIDTH: Final = 320
HEIGHT: Final = 72
# Where nothing was heard for so much longer than usual, the line has a gap.
_GAP: Final = 4


@dataclass(frozen=True)
class Chart:
    """One chart.

    Attributes:
        lines: for ``polyline``, one for each stretch without a gap.
        latest, most: the last value, and the top of the chart, in words.
        since, until: the times of the first and the last point.
        summary: what it shows, for those who do not see it.
    """

    title: str
    lines: tuple[str, ...]
    latest: str
    most: str
    since: datetime
    until: datetime
    summary: str


def chart(title: str, unit: str, points: Sequence[tuple[datetime, float]], top: float | None = None) -> Chart | None:
    """Draw points, oldest first; None when there are fewer than two.

    Args:
        unit: stands after each number, such as ``%``.
        top: the least that the top of the chart stands for; it grows with the points.
    """
    if len(points) < 2:
        return None
    since, until = points[0][0], points[-1][0]
    span_s = (until - since).total_seconds() or 1
    highest = max(top or 0, *(value for _, value in points)) or 1
    placed = [
        ((at - since).total_seconds() / span_s * WIDTH, HEIGHT - value / highest * (HEIGHT - 2) - 1)
        for at, value in points
    ]
    latest, low, high = points[-1][1], min(value for _, value in points), max(value for _, value in points)
    return Chart(
        title,
        tuple(" ".join(f"{x:.1f},{y:.1f}" for x, y in stretch) for stretch in _stretches(placed)),
        _shown(latest, unit),
        _shown(highest, unit),
        since,
        until,
        f"{title}: {_shown(latest, unit)} now, between {_shown(low, unit)} and {_shown(high, unit)}",
    )


def _stretches(placed: list[tuple[float, float]]) -> list[list[tuple[float, float]]]:
    steps = sorted(right[0] - left[0] for left, right in pairwise(placed))
    usual = steps[len(steps) // 2]
    found = [[placed[0]]]
    for left, right in pairwise(placed):
        if right[0] - left[0] > _GAP * usual:
            found.append([])
        found[-1].append(right)
    return found


def _shown(value: float, unit: str) -> str:
    return f"{value:.0f}{unit}" if value >= 10 or value == int(value) else f"{value:.1f}{unit}"
