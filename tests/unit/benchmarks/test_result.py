"""What a benchmark prints."""

from __future__ import annotations

import json

import pytest

from tests.benchmarks.result import Result, percentile, spread

RESULT = Result("some_time", 120.0, "ms", 40.0, 400, {"n": 20})


def test_the_line_is_one_json_object_of_the_agreed_keys() -> None:
    line = RESULT.line()
    assert "\n" not in line
    assert json.loads(line) == {
        "bench": "some_time",
        "value": 120.0,
        "unit": "ms",
        "peer": 40.0,
        "ratio": 3.0,
        "detail": {"target": 400, "n": 20},
    }


@pytest.mark.parametrize(("value", "met"), [(399.9, True), (400, True), (400.1, False)])
def test_a_target_is_met_up_to_its_own_value(value: float, met: bool) -> None:
    assert Result("b", value, "ms", 1.0, 400).met is met


@pytest.mark.parametrize(
    ("values", "percent", "found"),
    [([5.0], 99, 5.0), ([3.0, 1.0, 2.0], 50, 2.0), (list(range(1, 101)), 99, 99), (list(range(1, 21)), 99, 20)],
)
def test_percentile_is_a_value_of_the_sample(values: list[float], percent: float, found: float) -> None:
    assert percentile(values, percent) == found


def test_a_spread_names_the_sample_s_size() -> None:
    assert spread([1.0, 2.0, 30.0]) == {"n": 3, "min": 1.0, "p50": 2.0, "p99": 30.0}
