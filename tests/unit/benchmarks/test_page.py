"""Table of figures in the docs."""

from __future__ import annotations

from datetime import date

import pytest

from tests.benchmarks.machine import Machine, total_memory_mb
from tests.benchmarks.page import END, START, NoTable, row, with_rows
from tests.benchmarks.result import Result

MACHINE = Machine(2, 24105, "6.1.0", {"Python": "3.11.7"}, date(2026, 1, 2))
PAGE = f"# Benchmarks\n\n{START}\n{END}\n\nThe end.\n"


def table_row(name: str, value: float) -> str:
    return row(Result(name, value, "MB", 10.0, 64), MACHINE)


def test_a_row_names_the_machine() -> None:
    assert table_row("a", 20.0) == (
        "| `a` | 20 MB | ≤ 64 MB | 10 MB | 2 | 2026-01-02, 2 cores, 24 GB, Linux 6.1.0, Python 3.11.7 |"
    )


def test_a_minimum_target_is_shown_with_a_greater_or_equal_sign() -> None:
    result = Result("a", 900.0, "events/s", 10.0, 100, more_is_better=True)
    assert row(result, MACHINE).startswith("| `a` | 900 events/s | ≥ 100 events/s | 10 events/s | 90 |")


def test_new_rows_are_placed_between_the_marks_in_order_of_name() -> None:
    page = with_rows(PAGE, [table_row("b", 1.0), table_row("a", 2.0)])
    assert page.startswith("# Benchmarks\n\n")
    assert page.endswith(f"{END}\n\nThe end.\n")
    assert page.index("`a`") < page.index("`b`")


def test_a_row_replaces_the_older_row_of_its_benchmark_only() -> None:
    page = with_rows(with_rows(PAGE, [table_row("a", 1.0), table_row("b", 2.0)]), [table_row("a", 33.0)])
    assert page.count("`a`") == 1
    assert "| 33 MB |" in page
    assert "| `b` | 2 MB |" in page


def test_writing_the_same_rows_again_changes_nothing() -> None:
    page = with_rows(PAGE, [table_row("a", 1.0)])
    assert with_rows(page, [table_row("a", 1.0)]) == page


def test_a_page_without_the_marks_is_refused() -> None:
    with pytest.raises(NoTable, match="end of figures"):
        with_rows(f"# Benchmarks\n{START}\n", [table_row("a", 1.0)])


def test_total_memory_mb_reads_the_machines_memory() -> None:
    assert total_memory_mb("MemTotal:       24683520 kB\nMemFree:        1 kB\n") == 24105
