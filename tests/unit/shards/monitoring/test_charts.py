"""Coordinates of charts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from shards.monitoring.charts import HEIGHT, WIDTH, chart

START = datetime(2030, 1, 1, tzinfo=UTC)


def points(*values: float, apart_s: int = 30) -> list[tuple[datetime, float]]:
    return [(START + timedelta(seconds=apart_s * index), value) for index, value in enumerate(values)]


def test_a_line_goes_from_edge_to_edge_and_stays_inside() -> None:
    drawn = chart("CPU", " %", points(0, 50, 100), top=100)
    assert drawn is not None
    assert drawn.lines == (f"0.0,{HEIGHT - 1:.1f} {WIDTH / 2:.1f},36.0 {WIDTH:.1f},1.0",)
    assert (drawn.latest, drawn.maximum) == ("100 %", "100 %")


def test_the_summary_is_for_screen_readers() -> None:
    drawn = chart("CPU", " %", points(10, 2.5, 20))
    assert drawn is not None
    assert drawn.summary == "CPU: 20 % now, between 2.5 % and 20 %"


def test_silence_is_a_gap() -> None:
    before, after = points(1, 2, 3), [(at + timedelta(hours=1), value) for at, value in points(4, 5)]
    drawn = chart("Jobs", "", [*before, *after])
    assert drawn is not None
    assert [line.count(",") for line in drawn.lines] == [3, 2]


def test_nothing_but_zeroes_is_drawn_too() -> None:
    assert chart("Jobs", "", points(0, 0)) is not None


def test_a_single_point_gives_no_line() -> None:
    assert chart("Jobs", "", points(1)) is None
    assert chart("Jobs", "", []) is None
