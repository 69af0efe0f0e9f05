"""Errors of the embedded stack."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from myctobot.errors import MyctobotError


class StackError(MyctobotError):
    """The embedded stack cannot continue."""

    code = "stack_failed"
    exit_code: ClassVar[int] = 1


class AlreadyRunning(StackError):
    """The stack of this home is already running, so the caller has what it asked for."""

    code = "stack_already_running"
    exit_code = 0

    def __init__(self, message: str | None = None, *, urls: dict[str, str] | None = None, **data: Any) -> None:
        super().__init__(message, **data)
        self.urls = urls or {}


class ServiceFailed(StackError):
    """A service of the stack did not start; another try may succeed.

    Args:
        last_lines: of its output.
        log: file with all of its output, if there is one.
    """

    code = "service_failed"

    def __init__(self, service: str, reason: str, last_lines: list[str], log: Path | None = None) -> None:
        tail = "\n".join(f"    {line}" for line in last_lines) or "    (no output)"
        source = f" ({log})" if log else ""
        super().__init__(f"{service} {reason}. Its last log lines{source}:\n{tail}")
        self.service = service


class StoppedEarly(StackError):
    """The stack was asked to stop before it had started."""

    code = "stack_stopped_early"
    exit_code = 130
