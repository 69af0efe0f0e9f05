"""Output of a benchmark."""

from __future__ import annotations

import json

import pytest

from tests.benchmarks.result import Check, Result, percentile, spread

RESULT = Result("some_time", 120.0, "ms", 40.0, 400, {"n": 20})


def test_the_line_is_one_json_object_with_the_documented_keys() -> None:
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
def test_a_value_equal_to_the_target_meets_it(value: float, met: bool) -> None:
    assert Result("b", value, "ms", 1.0, 400).met is met


@pytest.mark.parametrize(("value", "met"), [(399.9, False), (400, True), (400.1, True)])
def test_a_higher_value_meets_the_target_where_more_is_better(value: float, met: bool) -> None:
    assert Result("b", value, "events/s", 1.0, 400, more_is_better=True).met is met


@pytest.mark.parametrize(
    ("check", "met", "bound"),
    [
        (Check("growth", 20.0, 20, "MB"), True, "at_most"),
        (Check("growth", 20.1, 20, "MB"), False, "at_most"),
        (Check("share", 19.9, 20, "%", more_is_better=True), False, "at_least"),
        (Check("share", 20.0, 20, "%", more_is_better=True), True, "at_least"),
    ],
)
def test_a_missed_check_fails_the_result(check: Check, met: bool, bound: str) -> None:
    result = Result("b", 1.0, "ms", 1.0, 2, checks=[check])
    assert result.met is met
    (shown,) = json.loads(result.line())["detail"]["checks"]
    assert shown == {"what": check.what, "value": check.value, bound: check.bound, "unit": check.unit, "met": met}


def test_a_verdict_names_only_missed_bounds() -> None:
    kept, missed = Check("kept", 1.0, 2, "MB"), Check("missed", 3.0, 2, "MB")
    assert Result("b", 1.0, "ms", 1.0, 2, checks=[kept]).verdict() == "1 ms within the target of 2"
    verdict = Result("b", 3.0, "ms", 1.0, 2, checks=[kept, missed]).verdict()
    assert verdict.startswith("3 ms MISSES the target of 2; missed MISSES")
    assert "kept" not in verdict


@pytest.mark.parametrize(
    ("values", "percent", "found"),
    [([5.0], 99, 5.0), ([3.0, 1.0, 2.0], 50, 2.0), (list(range(1, 101)), 99, 99), (list(range(1, 21)), 99, 20)],
)
def test_percentile_is_a_value_of_the_sample(values: list[float], percent: float, found: float) -> None:
    assert percentile(values, percent) == found


def test_a_spread_includes_the_size_of_the_sample() -> None:
    assert spread([1.0, 2.0, 30.0]) == {"n": 3, "min": 1.0, "p50": 2.0, "p99": 30.0}
