"""The table of figures in the docs."""

from __future__ import annotations

from datetime import date

import pytest

from tests.benchmarks.machine import Machine, total_memory_mb
from tests.benchmarks.page import END, START, NoTable, row, with_rows
from tests.benchmarks.result import Result

MACHINE = Machine(2, 24105, "6.1.0", {"Python": "3.11.7"}, date(2026, 1, 2))
PAGE = f"# Benchmarks\n\n{START}\n{END}\n\nThe end.\n"


def made(name: str, value: float) -> str:
    return row(Result(name, value, "MB", 10.0, 64), MACHINE)


def test_a_row_names_the_machine() -> None:
    assert made("a", 20.0) == (
        "| `a` | 20 MB | ≤ 64 MB | 10 MB | 2 | 2026-01-02, 2 cores, 24 GB, Linux 6.1.0, Python 3.11.7 |"
    )


def test_a_target_that_must_be_reached_is_shown_as_such() -> None:
    result = Result("a", 900.0, "events/s", 10.0, 100, more_is_better=True)
    assert row(result, MACHINE).startswith("| `a` | 900 events/s | ≥ 100 events/s | 10 events/s | 90 |")


def test_new_rows_stand_between_the_marks_in_order_of_name() -> None:
    page = with_rows(PAGE, [made("b", 1.0), made("a", 2.0)])
    assert page.startswith("# Benchmarks\n\n")
    assert page.endswith(f"{END}\n\nThe end.\n")
    assert page.index("`a`") < page.index("`b`")


def test_a_row_replaces_its_older_self_and_leaves_the_others() -> None:
    page = with_rows(with_rows(PAGE, [made("a", 1.0), made("b", 2.0)]), [made("a", 33.0)])
    assert page.count("`a`") == 1
    assert "| 33 MB |" in page
    assert "| `b` | 2 MB |" in page


def test_writing_the_same_rows_again_changes_nothing() -> None:
    page = with_rows(PAGE, [made("a", 1.0)])
    assert with_rows(page, [made("a", 1.0)]) == page


def test_a_page_without_the_marks_is_refused() -> None:
    with pytest.raises(NoTable, match="end of figures"):
        with_rows(f"# Benchmarks\n{START}\n", [made("a", 1.0)])


def test_memory_of_the_machine_is_read_in_mb() -> None:
    assert total_memory_mb("MemTotal:       24683520 kB\nMemFree:        1 kB\n") == 24105
