"""The choice of the long tests of a day."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import pytest

from tests.long import PARTS, part_of_day, part_of_test

from .inner import run_pytest

A_DAY = date(2030, 1, 1)
FILE = """
import pytest

@pytest.mark.long
@pytest.mark.parametrize("number", range(40))
def test_long(number: int) -> None:
    pass

def test_short() -> None:
    pass
"""


def test_seven_days_in_a_row_run_every_part() -> None:
    days = [A_DAY + timedelta(days=number) for number in range(PARTS)]
    assert sorted(part_of_day(day) for day in days) == list(range(PARTS))


def test_the_part_of_a_test_depends_on_its_name_alone() -> None:
    assert part_of_test("tests/x.py::test_a[1]") == 3
    assert part_of_test("tests/x.py::test_b") == 0


def test_every_part_gets_some_of_many_tests() -> None:
    assert {part_of_test(f"test_{number}") for number in range(100)} == set(range(PARTS))


@pytest.mark.parametrize(("choice", "passed"), [("all", 41), ("none", 1)])
def test_all_or_none_run_on_demand(tmp_path: Path, choice: str, passed: int) -> None:
    output = run_pytest(tmp_path, FILE, "--long", choice)
    assert f"{passed} passed" in output
    assert f"long tests: {choice}" in output


def test_the_date_chooses_one_part(tmp_path: Path) -> None:
    names = [f"test_inner.py::test_long[{number}]" for number in range(40)]
    expected = sum(part_of_test(name) == part_of_day(A_DAY) for name in names)
    assert 0 < expected < len(names)
    output = run_pytest(tmp_path, FILE, "--long-day", str(A_DAY))
    assert f"{expected + 1} passed" in output
    assert f"long tests: today, the part {part_of_day(A_DAY) + 1} of 7 on 2030-01-01" in output
