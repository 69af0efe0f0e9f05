"""Waiting for tasks of Proxmox, which go on whether anybody waits or not."""

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
# Between two looks; doubles from the first to the last.
_FIRST_LOOK_S, _LAST_LOOK_S = 0.05, 2.0
_PROGRESS_S: Final = 5.0
# The API may be away for so long while its tasks go on: an upgrade of pveproxy, for one.
_AWAY_S: Final = 60.0
_LOG_PAGE, _LOG_MOST = 500, 10_000


class TaskTimeout(TaskFailed):
    """A task of Proxmox did not end in time."""

    retryable = True


class Tasks:
    """Follows tasks to their ends.

    Args:
        timeout_s: how long any task may take.
    """

    def __init__(self, client: Client, timeout_s: float) -> None:
        self._client = client
        self._timeout_s = timeout_s

    def wait(self, upid: str, what: str, journal: Journal) -> None:
        """Return when the task has ended well; its progress goes to the journal.

        Raises:
            TaskTimeout: it did not end in time; it was asked to stop.
            ProviderError: it failed; the message has its last log lines.
        """
        node = _node(upid)
        exitstatus = self._exitstatus(node, upid, what, journal)
        # Warnings are for people: what was asked for was done.
        if exitstatus != "OK" and not exitstatus.startswith("WARNINGS"):
            raise task_failed(what, exitstatus, self._log(node, upid))

    def _exitstatus(self, node: str, upid: str, what: str, journal: Journal) -> str:
        end = time.monotonic() + self._timeout_s
        told_at, told = time.monotonic(), ""
        away_since: float | None = None
        for pause in pauses():
            try:
                status = self._client.record("nodes", node, "tasks", upid, "status")
            except ProviderUnreachable:
                away_since = away_since or time.monotonic()
                if time.monotonic() - away_since > min(_AWAY_S, self._timeout_s):
                    raise
                status = {}
            else:
                away_since = None
            if status.get("status") == "stopped":
                return str(status.get("exitstatus") or "no exit status")
            if time.monotonic() >= end:
                raise self._given_up(node, upid, what)
            if time.monotonic() - told_at >= _PROGRESS_S:
                told_at, told = time.monotonic(), self._tell(node, upid, what, told, journal)
            time.sleep(min(pause, max(end - time.monotonic(), 0.01)))
        raise AssertionError("pauses never end")

    def _tell(self, node: str, upid: str, what: str, told: str, journal: Journal) -> str:
        lines = self._log(node, upid)
        last = lines[-1].strip()[:200] if lines else ""
        if last and last != told:
            journal.step(f"{what}: {last}")
        return last

    def _given_up(self, node: str, upid: str, what: str) -> TaskTimeout:
        try:
            self._client.delete("nodes", node, "tasks", upid)
            asked = "it was asked to stop"
        except ProviderError as error:
            asked = f"it could not be stopped: {error}"
        last = "; ".join(line.strip() for line in self._log(node, upid)[-3:])
        said = f" Its last lines: {last}." if last else ""
        return TaskTimeout(f"The task to {what} did not end within {self._timeout_s:.0f} s; {asked}.{said}")

    def _log(self, node: str, upid: str) -> list[str]:
        """All lines of a log, up to a bound; what cannot be read is no reason to lose the error that it is for."""
        lines: list[str] = []
        try:
            while len(lines) < _LOG_MOST:
                page = self._client.rows("nodes", node, "tasks", upid, "log", start=len(lines), limit=_LOG_PAGE)
                lines += [str(row.get("t") or "") for row in page]
                if len(page) < _LOG_PAGE:
                    break
        except ProviderError as error:
            lines.append(f"(the log cannot be read: {error})")
        return [line for line in lines if line != "no content"]


def pauses() -> Iterator[float]:
    """Seconds between one look and the next, for ever."""
    pause = _FIRST_LOOK_S
    while True:
        yield pause
        pause = min(pause * 1.5, _LAST_LOOK_S)


def _node(upid: str) -> str:
    found = _UPID.fullmatch(upid)
    if found is None:
        raise ProviderError(f"'{upid[:80]}' is not a task of Proxmox.")
    return found["node"]
