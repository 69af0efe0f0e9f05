"""Processes identified by pid *and* start time, so that a signal never reaches a process with a reused pid."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from myctobot.stack.home import read_json, write_private


def start_time(pid: int) -> int | None:
    """Return the start time of ``pid`` in clock ticks since boot (field 22 of proc_pid_stat(5)).

    Return None when there is no such process or when it is a zombie.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The second field is the name in parentheses, which may itself contain spaces and parentheses.
    state, *rest = stat.rpartition(")")[2].split()
    return None if state in "ZX" else int(rest[18])


@dataclass(frozen=True)
class ProcessId:
    """Identity of one process during its lifetime."""

    pid: int
    start_time: int

    @classmethod
    def of(cls, pid: int) -> ProcessId | None:
        started = start_time(pid)
        return None if started is None else cls(pid, started)

    def is_alive(self) -> bool:
        return start_time(self.pid) == self.start_time

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to this process only, if it is still alive."""
        if self.is_alive():
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        self.signal(signal.SIGKILL)

    def kill_session(self) -> None:
        """Kill the process and all members of the session that it leads."""
        if not self.is_alive():
            return
        for member in _session_members(self.pid):
            member.signal(signal.SIGKILL)
        self.signal(signal.SIGKILL)


def _session_members(leader: int) -> list[ProcessId]:
    members = []
    for pid in psutil.pids():
        with suppress(ProcessLookupError, PermissionError):
            if pid != leader and os.getsid(pid) == leader and (member := ProcessId.of(pid)):
                members.append(member)
    return members


def wait_until_gone(processes: Iterable[ProcessId], timeout_s: float) -> list[ProcessId]:
    """Wait until all processes have ended; return those that are still alive after the timeout."""
    deadline = time.monotonic() + timeout_s
    alive = [process for process in processes if process.is_alive()]
    while alive and time.monotonic() < deadline:
        time.sleep(0.02)
        alive = [process for process in alive if process.is_alive()]
    return alive


class Records:
    """Records of started processes in ``<home>/run/<name>.json``, from which the next start stops leftovers."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def write(self, name: str, pid: int, stop_signal: signal.Signals) -> None:
        """Record a process.

        Raises:
            OSError: the disk takes no more.
        """
        if process := ProcessId.of(pid):
            record = {**asdict(process), "stop_signal": int(stop_signal)}
            write_private(self._folder / f"{name}.json", json.dumps(record))

    def remove(self, name: str) -> None:
        """Remove a record; one that the disk does not let go names an ended process, which has no effect."""
        with suppress(OSError):
            (self._folder / f"{name}.json").unlink(missing_ok=True)

    def stop_leftovers(self, pattern: str = "*", timeout_s: float = 10) -> list[str]:
        """Stop the leftovers of an earlier run, and return the names of those that were still alive."""
        stopped: dict[str, ProcessId] = {}
        for path in sorted(self._folder.glob(f"{pattern}.json")):
            if leftover := self._read(path):
                process, stop_signal = leftover
                process.signal(stop_signal)
                stopped[path.stem] = process
            self.remove(path.stem)
        for process in wait_until_gone(stopped.values(), timeout_s):
            process.kill_session()
        wait_until_gone(stopped.values(), timeout_s)
        return sorted(stopped)

    @staticmethod
    def _read(path: Path) -> tuple[ProcessId, signal.Signals] | None:
        record = read_json(path)
        try:
            process = ProcessId(int(record["pid"]), int(record["start_time"]))
            stop_signal = signal.Signals(int(record["stop_signal"]))
        except (TypeError, KeyError, ValueError):
            return None
        return (process, stop_signal) if process.is_alive() else None
