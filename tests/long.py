"""Marker ``long`` for tests that take long, such as an outage of an hour.

``make test-long`` runs all of them. Every other run selects a part by the date, so that a daily CI runs each of them
at least once a week.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, date, datetime

import pytest

PARTS = 7
_DAY = pytest.StashKey[date]()


def part_of_test(node_id: str) -> int:
    """Return the part of a test, which depends on its name only."""
    return int.from_bytes(hashlib.sha256(node_id.encode()).digest()[:8], "big") % PARTS


def part_of_day(day: date) -> int:
    """Return the part that runs on a day; any seven days in a row run every part."""
    return day.toordinal() % PARTS


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--long",
        choices=("today", "all", "none"),
        default="today",
        help="which of the tests marked long run: the part that the date chooses, all or none",
    )
    parser.addoption("--long-day", metavar="DATE", help="the date that chooses, such as 2030-12-31, instead of today")


class _Selection:
    """Plugin that deselects the long tests of other days and reports it."""

    def __init__(self, choice: str, day: date) -> None:
        self._choice, self._day = choice, day

    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        skipped = [item for item in items if item.get_closest_marker("long") and not self._runs(item.nodeid)]
        if skipped:
            config.hook.pytest_deselected(items=skipped)
            items[:] = [item for item in items if item not in set(skipped)]

    def _runs(self, node_id: str) -> bool:
        if self._choice == "today":
            return part_of_test(node_id) == part_of_day(self._day)
        return self._choice == "all"

    def pytest_report_header(self) -> str:
        part = f", the part {part_of_day(self._day) + 1} of {PARTS} on {self._day}" if self._choice == "today" else ""
        return f"long tests: {self._choice}{part}; 'make test-long' runs all"


def pytest_configure(config: pytest.Config) -> None:
    # Workers use the date of the main process, because a run may continue after midnight.
    given = getattr(config, "workerinput", {}).get("long_day") or config.getoption("--long-day")
    day = date.fromisoformat(given) if given else datetime.now(UTC).date()
    config.stash[_DAY] = day
    config.pluginmanager.register(_Selection(config.getoption("--long"), day), "long-selection")


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: object) -> None:
    """Tell a worker of pytest-xdist the day of the run."""
    node.workerinput["long_day"] = node.config.stash[_DAY].isoformat()  # type: ignore[attr-defined]  # xdist is untyped
