"""Column charts as plain numbers, which a template draws as SVG. Pure.

The picture is stretched to whatever room there is, so that nothing in it is text: labels stand around it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

WIDTH: Final = 720
HEIGHT: Final = 120
# Part of a column's width that stays empty beside it.
_GAP: Final = 0.2
_MARKS: Final = 4


@dataclass(frozen=True)
class Series:
    """Values of one kind, one a moment; None where nothing is known.

    Attributes:
        tone: a CSS class, such as ``tone-good``.
    """

    label: str
    tone: str
    values: Sequence[float | None]


@dataclass(frozen=True)
class Bar:
    """A rectangle of the picture."""

    x: float
    y: float
    width: float
    height: float
    tone: str


@dataclass(frozen=True)
class Column:
    """What is shown of one moment when somebody points at it."""

    x: float
    width: float
    text: str


@dataclass(frozen=True)
class Chart:
    """A chart, ready to be drawn.

    Attributes:
        top: what its upper edge stands for.
        marks: times below it, from left to right.
        summary: what it shows, for those who do not see it.
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
    most: float | None = None,
) -> Chart:
    """Draw columns.

    Args:
        name: tells charts of a page apart.
        moments: when each column begins, oldest first; every series has as many values.
        unit: stands after each number.
        stacked: the series stand on each other instead of side by side.
        most: the value of the upper edge; the next round number above all values if there is none.
    """
    sums = [_height(series, at, stacked) for at in range(len(moments))]
    top = most or round_up(max(sums, default=0.0))
    step = WIDTH / max(1, len(moments))
    bars = [bar for at in range(len(moments)) for bar in _bars(series, at, step, top, stacked)]
    columns = tuple(
        Column(round(at * step, 2), round(step, 2), f"{moment:%H:%M} UTC: {_words(series, at, unit)}")
        for at, moment in enumerate(moments)
    )
    return Chart(
        name,
        title,
        f"{shown(top)}{unit}",
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
    room = step * (1 - _GAP)
    width = room if stacked else room / max(1, len(series))
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


def _words(series: Sequence[Series], at: int, unit: str) -> str:
    said = [f"{shown(value)}{unit} {one.label}" for one in series if (value := one.values[at]) is not None]
    return ", ".join(said) or "nothing known"


def _summary(title: str, series: Sequence[Series], unit: str) -> str:
    parts = []
    for one in series:
        known = [value for value in one.values if value is not None]
        if any(known):
            parts.append(f"{one.label}: {shown(known[-1])}{unit} last, {shown(max(known))}{unit} at most")
    return f"{title}. {'; '.join(parts)}." if parts else f"{title}. Nothing yet."


def round_up(value: float) -> float:
    """The least of 1, 2, 5, 10, 20, 50 … that is not less."""
    top = 1.0
    while True:
        for factor in (1, 2, 5):
            if value <= top * factor:
                return top * factor
        top *= 10


def shown(value: float) -> str:
    """A number without what nobody reads: 12, 3.4, 0.05."""
    if value >= 10 or value == int(value):
        return f"{value:,.0f}".replace(",", "\u202f")
    return f"{value:.1f}" if value >= 1 else f"{value:.2g}"
