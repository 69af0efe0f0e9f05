"""Background tasks of Proxmox: wait for their end and read their logs."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import Final

from shards.providers.base import Journal
from shards.providers.errors import ProviderError, ProviderUnreachable
from shards.providers.proxmox.client import Client
from shards.providers.proxmox.error_mapping import task_failed
from shards.providers.proxmox.errors import TaskFailed

# UPID:node:pid:start of the process:start of the task:kind:id:user:
_UPID = re.compile(
    r"UPID:(?P<node>[A-Za-z0-9-]+):[0-9A-Fa-f]{8,}:[0-9A-Fa-f]{8,}:[0-9A-Fa-f]{8,}:\w+:[^:/\s]*:[^:/\s]+:"
)
# Pauses between polls grow from the first to the last value.
_FIRST_PAUSE_S, _LAST_PAUSE_S = 0.05, 2.0
_PROGRESS_S: Final = 5.0
# Tasks continue while the API is down for this long, for example during an upgrade of pveproxy.
_MAX_DOWNTIME_S: Final = 60.0
_LOG_PAGE, _MAX_LOG_LINES = 500, 10_000


class TaskTimeout(TaskFailed):
    """A task of Proxmox did not end in time."""

    retryable = True


class Tasks:
    """Waits for tasks.

    Args:
        timeout_s: limit for each task.
    """

    def __init__(self, client: Client, timeout_s: float) -> None:
        self._client = client
        self._timeout_s = timeout_s

    def wait(self, upid: str, action: str, journal: Journal) -> None:
        """Wait until a task has succeeded, and report its progress to the journal.

        Raises:
            TaskTimeout: it did not end in time and was asked to stop.
            ProviderError: it failed; the message has its last log lines.
        """
        node = _node(upid)
        exitstatus = self._exitstatus(node, upid, action, journal)
        # A task with warnings has succeeded.
        if exitstatus != "OK" and not exitstatus.startswith("WARNINGS"):
            raise task_failed(action, exitstatus, self._log(node, upid))

    def _exitstatus(self, node: str, upid: str, action: str, journal: Journal) -> str:
        end = time.monotonic() + self._timeout_s
        reported_at, reported = time.monotonic(), ""
        down_since: float | None = None
        for pause in pauses():
            try:
                status = self._client.record("nodes", node, "tasks", upid, "status")
            except ProviderUnreachable:
                down_since = down_since or time.monotonic()
                if time.monotonic() - down_since > min(_MAX_DOWNTIME_S, self._timeout_s):
                    raise
                status = {}
            else:
                down_since = None
            if status.get("status") == "stopped":
                return str(status.get("exitstatus") or "no exit status")
            if time.monotonic() >= end:
                raise self._timeout_error(node, upid, action)
            if time.monotonic() - reported_at >= _PROGRESS_S:
                reported_at, reported = time.monotonic(), self._report(node, upid, action, reported, journal)
            time.sleep(min(pause, max(end - time.monotonic(), 0.01)))
        raise AssertionError("pauses never end")

    def _report(self, node: str, upid: str, action: str, reported: str, journal: Journal) -> str:
        lines = self._log(node, upid)
        last = lines[-1].strip()[:200] if lines else ""
        if last and last != reported:
            journal.step(f"{action}: {last}")
        return last

    def _timeout_error(self, node: str, upid: str, action: str) -> TaskTimeout:
        try:
            self._client.delete("nodes", node, "tasks", upid)
            result = "it was asked to stop"
        except ProviderError as error:
            result = f"it could not be stopped: {error}"
        last = "; ".join(line.strip() for line in self._log(node, upid)[-3:])
        log = f" Its last lines: {last}." if last else ""
        return TaskTimeout(f"The task to {action} did not end within {self._timeout_s:.0f} s; {result}.{log}")

    def _log(self, node: str, upid: str) -> list[str]:
        """Return the lines of a log up to a limit; an unreadable log does not replace the error that it explains."""
        lines: list[str] = []
        try:
            while len(lines) < _MAX_LOG_LINES:
                page = self._client.rows("nodes", node, "tasks", upid, "log", start=len(lines), limit=_LOG_PAGE)
                lines += [str(row.get("t") or "") for row in page]
                if len(page) < _LOG_PAGE:
                    break
        except ProviderError as error:
            lines.append(f"(the log cannot be read: {error})")
        return [line for line in lines if line != "no content"]


def pauses() -> Iterator[float]:
    """Yield growing pauses between polls, in seconds, without an end."""
    pause = _FIRST_PAUSE_S
    while True:
        yield pause
        pause = min(pause * 1.5, _LAST_PAUSE_S)


def _node(upid: str) -> str:
    found = _UPID.fullmatch(upid)
    if found is None:
        raise ProviderError(f"'{upid[:80]}' is not a task of Proxmox.")
    return found["node"]
