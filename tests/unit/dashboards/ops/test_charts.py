"""Column charts as numbers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from myctobot.dashboards.ops.charts import HEIGHT, WIDTH, Chart, Series, chart, format_number, round_up

START = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)


def moments(count: int) -> list[datetime]:
    return [START + timedelta(minutes=5 * number) for number in range(count)]


def two(*, stacked: bool, values: list[float | None], others: list[float | None]) -> Chart:
    series = [Series("one", "tone-good", values), Series("two", "tone-bad", others)]
    return chart("name", "Title", moments(len(values)), series, stacked=stacked)


@pytest.mark.parametrize(
    ("value", "top"),
    [(0, 1), (0.3, 1), (1, 1), (1.1, 2), (3, 5), (7, 10), (10, 10), (11, 20), (4999, 5000), (5001, 1e4)],
)
def test_the_upper_edge_is_a_round_number(value: float, top: float) -> None:
    assert round_up(value) == top


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (12.4, "12"), (3.14, "3.1"), (3.0, "3"), (0.054, "0.054"), (12345, "12\u202f345")]
)
def test_numbers_have_few_digits(value: float, text: str) -> None:
    assert format_number(value) == text


def test_side_by_side_columns_do_not_overlap_and_stay_inside() -> None:
    drawn = two(stacked=False, values=[1, 5], others=[4, 2])
    assert drawn.top == "5"
    edges = [(bar.x, bar.x + bar.width) for bar in sorted(drawn.bars, key=lambda bar: bar.x)]
    assert all(left[1] <= right[0] + 0.02 for left, right in pairwise(edges))
    assert edges[-1][1] <= WIDTH
    tallest = max(drawn.bars, key=lambda bar: bar.height)
    assert (tallest.y, tallest.height) == (0, HEIGHT)


def test_stacked_columns_stand_on_each_other() -> None:
    drawn = two(stacked=True, values=[3], others=[2])
    lower, upper = drawn.bars
    assert drawn.top == "5"
    assert lower.y + lower.height == HEIGHT
    assert upper.y + upper.height == pytest.approx(lower.y)
    assert upper.y == 0


def test_what_is_higher_than_the_upper_edge_is_cut_there() -> None:
    drawn = chart("name", "Title", moments(1), [Series("use", "tone-info", [130])], maximum=100, unit=" %")
    assert drawn.bars[0].height == HEIGHT
    assert drawn.columns[0].text == "12:00 UTC: 130 % use"


def test_each_column_says_its_values_and_what_is_not_known() -> None:
    drawn = two(stacked=False, values=[1, None], others=[0, None])
    assert [column.text for column in drawn.columns] == ["12:00 UTC: 1 one, 0 two", "12:05 UTC: no data"]


def test_the_summary_says_the_last_value_and_the_highest() -> None:
    assert two(stacked=False, values=[5, 2, None], others=[0, 0, 0]).summary == "Title. one: 2 last, 5 at most."
    nothing = two(stacked=False, values=[None], others=[0])
    assert nothing.is_empty
    assert nothing.summary == "Title. No data yet."


def test_a_chart_of_nothing_is_drawn_too() -> None:
    assert chart("name", "Title", [], []).is_empty
