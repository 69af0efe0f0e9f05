"""Processes of this machine, as /proc shows them; see proc(5)."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ProcessInfo:
    """State of one process."""

    pid: int
    parent: int
    session: int
    state: str  # R S D T t Z X I
    memory: int  # resident, in bytes
    started: int  # in clock ticks since boot
    threads: int = 1

    @property
    def alive(self) -> bool:
        # The state is that of the first thread, which may end before the others.
        return self.state not in ("Z", "X", "x") or self.threads > 1

    @property
    def stopped(self) -> bool:
        return self.state in ("T", "t")


def parse_stat(text: str) -> ProcessInfo:
    """Parse the line of ``/proc/<pid>/stat``; a process may have spaces and parentheses in its name."""
    head, _, tail = text.rpartition(")")
    fields = tail.split()
    return ProcessInfo(
        pid=int(head.split(" ", 1)[0]),
        state=fields[0],
        parent=int(fields[1]),
        session=int(fields[3]),
        started=int(fields[19]),
        threads=int(fields[17]),
        memory=int(fields[21]) * resource.getpagesize(),
    )


def read(pid: int) -> ProcessInfo | None:
    """Return the state of a process, or None when it does not exist."""
    try:
        return parse_stat(Path(f"/proc/{pid}/stat").read_text(errors="replace"))
    except (FileNotFoundError, ProcessLookupError):
        return None


def snapshot() -> dict[int, ProcessInfo]:
    """Return all processes; one that starts during the call may be missing."""
    pids = (int(name) for name in os.listdir("/proc") if name.isdecimal())  # noqa: PTH208 - names, not paths
    return {info.pid: info for pid in pids if (info := read(pid)) is not None}


def descendants(processes: Mapping[int, ProcessInfo], roots: Iterable[int]) -> set[int]:
    """Return the existing roots and all their descendants."""
    children: dict[int, list[int]] = {}
    for info in processes.values():
        children.setdefault(info.parent, []).append(info.pid)
    found: set[int] = set()
    waiting = [pid for pid in roots if pid in processes]
    while waiting:
        pid = waiting.pop()
        if pid not in found:
            found.add(pid)
            waiting.extend(children.get(pid, ()))
    return found


def unconfined(uid: int, since: int) -> set[int]:
    """Return the processes of a user that share our PID namespace, which means that they are in no sandbox.

    Args:
        uid: number of the user.
        since: time in clock ticks since boot; only processes that started later are returned.
    """
    depth = len(status("self").get("NSpid", "").split())
    found = set()
    for pid, info in snapshot().items():
        fields = status(str(pid))
        same_user = str(uid) in fields.get("Uid", "").split()
        if same_user and info.alive and info.started > since and len(fields.get("NSpid", "").split()) == depth:
            found.add(pid)
    return found


def status(pid: str) -> dict[str, str]:
    """Return the fields of ``/proc/<pid>/status``; none when the process does not exist."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(errors="replace").splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return {}
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def threads(pids: Iterable[int]) -> int:
    """Return the number of threads of processes; the kernel counts these against the limit of a user's processes."""
    return sum(int(status(str(pid)).get("Threads", "0")) for pid in pids)
