"""Column charts as plain numbers, which a template draws as SVG. Pure.

The page stretches the picture to the available width. Labels are therefore outside the picture, as HTML.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

WIDTH: Final = 720
HEIGHT: Final = 120
# Fraction of a column's width that stays empty as a gap.
_GAP: Final = 0.2
_MARKS: Final = 4


@dataclass(frozen=True)
class Series:
    """Values of one kind, one for each moment; None where the value is unknown.

    Attributes:
        tone: a CSS class, such as ``tone-good``.
    """

    label: str
    tone: str
    values: Sequence[float | None]


@dataclass(frozen=True)
class Bar:
    """Rectangle of the picture."""

    x: float
    y: float
    width: float
    height: float
    tone: str


@dataclass(frozen=True)
class Column:
    """Area of one moment in the picture and its tooltip."""

    x: float
    width: float
    text: str


@dataclass(frozen=True)
class Chart:
    """Chart, ready to be drawn.

    Attributes:
        top: the label of the upper edge.
        marks: the times below the picture, from left to right.
        summary: a text alternative for screen readers.
    """

    name: str
    title: str
    top: str
    legend: tuple[tuple[str, str], ...]
    bars: tuple[Bar, ...]
    columns: tuple[Column, ...]
    marks: tuple[datetime, ...]
    summary: str

    @property
    def is_empty(self) -> bool:
        return not self.bars


def chart(
    name: str,
    title: str,
    moments: Sequence[datetime],
    series: Sequence[Series],
    *,
    unit: str = "",
    stacked: bool = False,
    maximum: float | None = None,
) -> Chart:
    """Draw columns.

    Args:
        name: identifies the chart on its page.
        moments: the start of each column, oldest first; every series has the same number of values.
        unit: follows each number.
        stacked: stack the series instead of drawing them side by side.
        maximum: the value of the upper edge; without it, the next round number above all values.
    """
    sums = [_height(series, at, stacked) for at in range(len(moments))]
    top = maximum or round_up(max(sums, default=0.0))
    step = WIDTH / max(1, len(moments))
    bars = [bar for at in range(len(moments)) for bar in _bars(series, at, step, top, stacked)]
    columns = tuple(
        Column(round(at * step, 2), round(step, 2), f"{moment:%H:%M} UTC: {_tooltip(series, at, unit)}")
        for at, moment in enumerate(moments)
    )
    return Chart(
        name,
        title,
        f"{format_number(top)}{unit}",
        tuple((one.label, one.tone) for one in series),
        tuple(bars),
        columns,
        tuple(moments[len(moments) * mark // _MARKS] for mark in range(_MARKS)) if moments else (),
        _summary(title, series, unit),
    )


def _height(series: Sequence[Series], at: int, stacked: bool) -> float:
    values = [one.values[at] or 0.0 for one in series]
    return sum(values) if stacked else max(values, default=0.0)


def _bars(series: Sequence[Series], at: int, step: float, top: float, stacked: bool) -> list[Bar]:
    found: list[Bar] = []
    bar_width = step * (1 - _GAP)
    width = bar_width if stacked else bar_width / max(1, len(series))
    base = 0.0
    for number, one in enumerate(series):
        value = min(one.values[at] or 0.0, top - base)
        if value > 0:
            height = value / top * HEIGHT
            x = at * step + (0 if stacked else number * width)
            y = HEIGHT - height - base / top * HEIGHT
            found.append(Bar(round(x, 2), round(y, 2), round(width, 2), round(height, 2), one.tone))
        base += value if stacked else 0.0
    return found


def _tooltip(series: Sequence[Series], at: int, unit: str) -> str:
    texts = [f"{format_number(value)}{unit} {one.label}" for one in series if (value := one.values[at]) is not None]
    return ", ".join(texts) or "no data"


def _summary(title: str, series: Sequence[Series], unit: str) -> str:
    parts = []
    for one in series:
        known = [value for value in one.values if value is not None]
        if any(known):
            parts.append(
                f"{one.label}: {format_number(known[-1])}{unit} last, {format_number(max(known))}{unit} at most"
            )
    return f"{title}. {'; '.join(parts)}." if parts else f"{title}. No data yet."


def round_up(value: float) -> float:
    """Round up to the next of 1, 2, 5, 10, 20, 50, …"""
    top = 1.0
    while True:
        for factor in (1, 2, 5):
            if value <= top * factor:
                return top * factor
        top *= 10


def format_number(value: float) -> str:
    """Format a number with few digits: 12, 3.4, 0.05."""
    if value >= 10 or value == int(value):
        return f"{value:,.0f}".replace(",", "\u202f")
    return f"{value:.1f}" if value >= 1 else f"{value:.2g}"
