"""Small line chart as coordinates for SVG; pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Final

WIDTH: Final = 320
HEIGHT: Final = 72
# The line has a gap where the distance between points is this many times the usual one.
_GAP: Final = 4


@dataclass(frozen=True)
class ShardChart:
    """Line chart.

    Attributes:
        lines: points for ``polyline``, one for each segment without a gap.
        latest, maximum: the last value and the top of the chart, with their unit.
        since, until: times of the first and the last point.
        summary: text for screen readers.
    """

    title: str
    lines: tuple[str, ...]
    latest: str
    maximum: str
    since: datetime
    until: datetime
    summary: str


def chart(
    title: str, unit: str, points: Sequence[tuple[datetime, float]], top: float | None = None
) -> ShardChart | None:
    """Draw points, oldest first; return None for fewer than two.

    Args:
        unit: follows each number, such as ``%``.
        top: minimum value of the chart's top; larger points raise it.
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
    return ShardChart(
        title,
        tuple(" ".join(f"{x:.1f},{y:.1f}" for x, y in segment) for segment in _segments(placed)),
        _format(latest, unit),
        _format(highest, unit),
        since,
        until,
        f"{title}: {_format(latest, unit)} now, between {_format(low, unit)} and {_format(high, unit)}",
    )


def _segments(placed: list[tuple[float, float]]) -> list[list[tuple[float, float]]]:
    steps = sorted(right[0] - left[0] for left, right in pairwise(placed))
    usual = steps[len(steps) // 2]
    found = [[placed[0]]]
    for left, right in pairwise(placed):
        if right[0] - left[0] > _GAP * usual:
            found.append([])
        found[-1].append(right)
    return found


def _format(value: float, unit: str) -> str:
    return f"{value:.0f}{unit}" if value >= 10 or value == int(value) else f"{value:.1f}{unit}"
