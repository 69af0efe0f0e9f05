"""Table of the latest figures in ``docs/benchmarks.md``."""

from __future__ import annotations

from collections.abc import Iterable

from tests.benchmarks.machine import Machine
from tests.benchmarks.result import Result

START, END = "<!-- figures: written by --write-docs -->", "<!-- end of figures -->"
HEADER = ("Benchmark", "Ours", "Target", "Peer", "Ratio", "Measured on")


class NoTable(Exception):
    """The page lacks the two marks that enclose the table."""


def row(result: Result, machine: Machine) -> str:
    """Return the row of one benchmark."""
    unit = result.unit
    cells = (
        f"`{result.bench}`",
        f"{result.value:g} {unit}",
        f"{'≥' if result.more_is_better else '≤'} {result.target:g} {unit}",
        f"{result.peer:g} {unit}",
        f"{result.ratio:g}",
        str(machine),
    )
    return _line(cells)


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def with_rows(page: str, rows: Iterable[str]) -> str:
    """Return the page with rows added to its table; a row replaces the former row of its benchmark.

    Raises:
        NoTable: the page lacks the marks.
    """
    before, start, rest = page.partition(START)
    old, end, after = rest.partition(END)
    if not start or not end:
        raise NoTable(f"The page must hold the lines {START!r} and {END!r}.")
    known = {_name(line): line for line in old.splitlines() if line.startswith("| `")}
    known |= {_name(line): line for line in rows}
    table = [_line(HEADER), _line("---" for _ in HEADER), *(known[name] for name in sorted(known))]
    return "\n".join([before + START, *table, END + after])


def _name(line: str) -> str:
    return line.split("`")[1]
