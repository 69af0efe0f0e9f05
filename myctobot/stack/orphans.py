"""Orphaned descendants of the stack.

Job runners outlive their worker by design, and their own children may outlive them. While the stack runs,
the kernel gives such orphans to the supervisor instead of init. The supervisor can therefore kill them at the end.
Containers are excluded: each is a shard that keeps running without the stack, like a shard on another machine.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import psutil

from myctobot.stack.processes import ProcessId, wait_until_gone

# linux/prctl.h
PR_SET_CHILD_SUBREAPER = 36
# The provider ``lxc`` starts containers with this program, which remains their parent process.
_MONITOR = "lxc-start"
_REAP_INTERVAL_S = 1.0
_KILL_WAIT_S = 5.0


@asynccontextmanager
async def adopt_orphans(own_children: Callable[[], set[int]]) -> AsyncIterator[None]:
    """Adopt orphans within the context, and kill every remaining descendant at its end, except containers.

    Args:
        own_children: returns the pids that other code in this process waits for.
    """
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    reaper = asyncio.create_task(_reap_forever(own_children))
    try:
        yield
    finally:
        reaper.cancel()
        await asyncio.to_thread(kill_descendants)
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


async def _reap_forever(own_children: Callable[[], set[int]]) -> None:
    """Reap adopted zombies that were seen twice; by then, other code has reaped the children that it waits for."""
    seen: set[int] = set()
    while True:
        # A lack of memory or descriptors must not end this task.
        with suppress(psutil.Error, OSError):
            zombies = _zombies() - own_children()
            _reap(zombies & seen)
            seen = zombies
        await asyncio.sleep(_REAP_INTERVAL_S)


def _zombies() -> set[int]:
    found = set()
    for child in psutil.Process().children():
        with suppress(psutil.NoSuchProcess):
            if child.status() == psutil.STATUS_ZOMBIE:
                found.add(child.pid)
    return found


def _reap(pids: set[int]) -> None:
    for pid in pids:
        with suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)


def kill_descendants() -> int:
    """Kill and reap all remaining descendants of this process, and return their number."""
    killed = 0
    # A process may start another one while it is being killed. The next pass of the loop finds that one.
    while remaining := [child for pid in _descendants() if (child := ProcessId.of(pid))]:
        for process in remaining:
            process.kill()
        killed += len(remaining)
        if wait_until_gone(remaining, _KILL_WAIT_S):
            break
    _reap(_zombies())
    return killed


def _descendants() -> list[int]:
    """Return the pids of all descendants, without containers and the processes in them."""
    parents = {}
    excluded = set()
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            parents[child.pid] = child.ppid()
            if _is_container_monitor(child):
                excluded.add(child.pid)
    while children := {pid for pid, parent in parents.items() if parent in excluded and pid not in excluded}:
        excluded |= children
    return [pid for pid in parents if pid not in excluded]


def _is_container_monitor(process: psutil.Process) -> bool:
    """Check for a container monitor by its executable, which it cannot fake, and by its user, which is root."""
    try:
        return process.uids().effective == 0 and Path(process.exe()).name == _MONITOR
    except psutil.AccessDenied:
        return False
