"""Report of the processes that a supervisor cannot start, as a file that the other processes read."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from django.conf import settings

# Ended ones stay in the report for this time, so that they can be reported when the database is back.
KEPT_FOR: Final = timedelta(hours=1)
_MAX_BYTES: Final = 64 * 1024


@dataclass(frozen=True)
class FailingPart:
    """Process that ends right after each start.

    Attributes:
        name: of the process, such as ``beat``.
        since: time of the first failed start.
        failed_starts: number of failed starts in a row.
        until: time at which it had started; None if it still fails.
    """

    name: str
    since: datetime
    failed_starts: int
    until: datetime | None = None


def report_path(home: Path) -> Path:
    """Return the path of the report below the home of a stack."""
    return home / "parts" / "failing.json"


def failing_parts() -> tuple[FailingPart, ...]:
    """Return the report of the supervisor of this installation; empty without one."""
    return read_report(report_path(settings.MYCTOBOT_HOME)) if settings.EMBEDDED else ()


def read_report(path: Path) -> tuple[FailingPart, ...]:
    """Return the failing parts, also those that have recovered; none if there is no readable report."""
    try:
        with path.open("rb") as file:
            items = json.loads(file.read(_MAX_BYTES))
        return tuple(_part(item) for item in items)
    except (OSError, ValueError, TypeError, KeyError):
        return ()


def _part(item: Any) -> FailingPart:
    until = item["until"]
    return FailingPart(
        str(item["name"]),
        datetime.fromisoformat(item["since"]),
        int(item["failed_starts"]),
        datetime.fromisoformat(until) if until else None,
    )


def report_text(parts: Iterable[FailingPart]) -> str:
    """Return the text of a report."""
    return json.dumps(
        [
            {
                "name": part.name,
                "since": part.since.isoformat(),
                "failed_starts": part.failed_starts,
                "until": part.until.isoformat() if part.until else None,
            }
            for part in parts
        ]
    )


class FailingParts:
    """Failing parts of one supervisor."""

    def __init__(self) -> None:
        self._failing: dict[str, FailingPart] = {}
        self._ended: list[FailingPart] = []

    def count(self, name: str, failed_starts: int, now: datetime | None = None) -> None:
        """Note one more failed start."""
        now = now or datetime.now(UTC)
        part = self._failing.get(name) or FailingPart(name, now, 0)
        self._failing[name] = replace(part, failed_starts=failed_starts)

    def end(self, name: str, now: datetime | None = None) -> bool:
        """Note that a part has started. Return true if it failed before."""
        part = self._failing.pop(name, None)
        if part is not None:
            self._ended.append(replace(part, until=now or datetime.now(UTC)))
        return part is not None

    def all(self, now: datetime | None = None) -> list[FailingPart]:
        """Return the parts that fail now, and those that failed lately."""
        oldest = (now or datetime.now(UTC)) - KEPT_FOR
        self._ended = [part for part in self._ended if part.until and part.until > oldest]
        return [*self._failing.values(), *self._ended[-100:]]
