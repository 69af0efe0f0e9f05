"""Reader for a simulation's arrivals, and its outcome as figures and text."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

from myctobot.errors import InvalidRequest
from shards.autoscaling.simulation import Arrival, Moment, SimulationOutcome

MAX_ARRIVALS: Final = 200_000
_COLUMNS: Final = ("at", "length_s")
_MAX_LENGTH_S: Final = 366 * 86400.0
_BARS: Final = " ▁▂▃▄▅▆▇█"
_WIDTH: Final = 72


class Recorded(NamedTuple):
    """Arrivals, and the time of the first one, UTC."""

    start: datetime
    arrivals: list[Arrival]


def read_arrivals(lines: Iterable[str]) -> Recorded:
    """Read arrivals from CSV with the columns ``at`` (ISO 8601, UTC by default) and ``length_s``.

    Raises:
        InvalidRequest: names the line and column of the mistake.
    """
    rows = csv.DictReader(lines, strict=True)
    try:
        if tuple(rows.fieldnames or ()) != _COLUMNS:
            raise _error(1, "at", f"The first line must be: {','.join(_COLUMNS)}")
        found = [_arrival(rows.line_num, row) for row in rows]
    except (csv.Error, UnicodeDecodeError) as error:
        raise _error(rows.line_num, "at", f"Is not valid CSV: {error}.") from None
    if not 0 < len(found) <= MAX_ARRIVALS:
        raise _error(rows.line_num, "at", f"There are {len(found)} jobs; 1 to {MAX_ARRIVALS} are allowed.")
    start = min(at for at, _ in found)
    if max(at for at, _ in found) - start > timedelta(seconds=_MAX_LENGTH_S):
        raise _error(rows.line_num, "at", "The jobs must lie within one year.")
    return Recorded(start, [Arrival((at - start).total_seconds(), length_s) for at, length_s in found])


def _arrival(line: int, row: dict[str, Any]) -> tuple[datetime, float]:
    try:
        at = datetime.fromisoformat(row["at"] or "")
    except (TypeError, ValueError):
        raise _error(line, "at", "Must be a time such as 2026-11-26T08:00:00Z.") from None
    try:
        length_s = float(row["length_s"] or "")
    except (TypeError, ValueError):
        length_s = -1
    if not 0 <= length_s <= _MAX_LENGTH_S:
        raise _error(line, "length_s", "Must be the seconds for which the job ran.")
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).astimezone(UTC), length_s


def _error(line: int, column: str, problem: str) -> InvalidRequest:
    return InvalidRequest(fields={f"line {line}, {column}": [problem]})


def figures(outcome: SimulationOutcome) -> dict[str, float]:
    """Return the figures to compare rule sets by: waits, cost and stability."""
    built = sum(shards for _, shards, _ in outcome.changes if shards > 0)
    return {
        "jobs": len(outcome.waits_s),
        "wait_p50_s": round(outcome.wait_s(0.5), 1),
        "wait_p95_s": round(outcome.wait_s(0.95), 1),
        "wait_max_s": round(outcome.wait_s(1), 1),
        "shard_hours": round(outcome.shard_s / 3600, 2),
        "shards_max": max((moment.shards for moment in outcome.moments), default=0),
        "scale_events": len(outcome.changes),
        "built": built,
        "released": -sum(shards for _, shards, _ in outcome.changes if shards < 0),
        "flaps": outcome.flaps,
    }


def chart(start: datetime, moments: Sequence[Moment]) -> str:
    """Draw shards, running and waiting jobs over time; each column shows the maximum of its interval."""
    if not moments:
        return ""
    rows: dict[str, Callable[[Moment], int]] = {
        "shards": lambda moment: moment.shards,
        "running": lambda moment: moment.running,
        "waiting": lambda moment: moment.waiting,
    }
    end_s = moments[-1].at_s
    lines = [_row(name, moments, value, end_s) for name, value in rows.items()]
    first, last = (f"{start + timedelta(seconds=at_s):%a %H:%M}" for at_s in (0, end_s))
    return "\n".join([*lines, f"{'':8} {first}{last:>{_WIDTH - len(first)}}"])


def _row(name: str, moments: Sequence[Moment], value: Callable[[Moment], int], end_s: float) -> str:
    maxima = [0] * _WIDTH
    for moment in moments:
        column = min(_WIDTH - 1, int(_WIDTH * moment.at_s / end_s)) if end_s else 0
        maxima[column] = max(maxima[column], value(moment))
    top = max(maxima)
    # Round up, so that every value above zero is visible.
    bars = (_BARS[-(-(len(_BARS) - 1) * number // top)] if top else " " for number in maxima)
    return f"{name:8} {''.join(bars)} max {top}"
