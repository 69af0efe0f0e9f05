"""The times that ``make test`` prints in the end."""

from __future__ import annotations

import json
from pathlib import Path

from tests.times import SuiteTimes, read, summary, write

from .inner import run_pytest

FILE = """
import time

import pytest

@pytest.fixture
def slow() -> None:
    time.sleep(0.1)

def test_slow(slow: None) -> None:
    time.sleep(0.1)

def test_wrong() -> None:
    raise AssertionError
"""


def test_a_run_that_fails_leaves_its_times(tmp_path: Path) -> None:
    run_pytest(tmp_path, FILE, "--suite", "inner", "--times-folder", str(tmp_path / "times"))
    (suite,) = read(tmp_path / "times")
    assert (suite.name, suite.exit_code) == ("inner", 1)
    assert set(suite.tests) == {"test_inner.py::test_slow", "test_inner.py::test_wrong"}
    # The time of its fixture counts too.
    assert 0.2 <= suite.tests["test_inner.py::test_slow"] <= suite.seconds


def test_a_run_without_a_name_leaves_nothing(tmp_path: Path) -> None:
    run_pytest(tmp_path, FILE, "--times-folder", str(tmp_path / "times"))
    assert not (tmp_path / "times").exists()


def test_the_slowest_tests_of_all_suites_come_first(tmp_path: Path) -> None:
    write(SuiteTimes("browser", 120.4, 1, 2000.0, {"test_b": 9.5}), tmp_path)
    write(SuiteTimes("unit", 30, 0, 1900.0, {f"test_u{number}": number for number in range(30)}), tmp_path)
    lines = summary(read(tmp_path))
    assert lines[0] == "Slowest 20 tests:"
    assert [line.split()[-1] for line in lines[1:4]] == ["test_u29", "test_u28", "test_u27"]
    assert [line.split()[-1] for line in lines[19:21]] == ["test_u11", "test_u10"]
    assert lines[21:] == [
        "Suites:",
        "      30 s  unit, 30 tests",
        "     120 s  browser, 1 tests, FAILED with exit code 1",
        "     130 s  from the first start to the last end",
    ]


def test_the_file_is_readable_by_others(tmp_path: Path) -> None:
    write(SuiteTimes("unit", 1.5, 0, 2000.0, {"test_a": 1.0}), tmp_path)
    expected = {"name": "unit", "seconds": 1.5, "exit_code": 0, "ended": 2000.0, "tests": {"test_a": 1.0}}
    assert json.loads((tmp_path / "unit.json").read_text()) == expected
