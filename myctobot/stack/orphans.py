"""Descendants whose parent ended before them.

Job runners outlive their worker by design, and what they started may outlive them. While the stack runs
they come to its supervisor instead of to init, so that at the end it can see that none is left.
Containers are the exception: each is a shard of its own that carries on without the stack, as one on another machine.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import psutil

from myctobot.stack.processes import ProcessId, wait_gone

# linux/prctl.h
PR_SET_CHILD_SUBREAPER = 36
# By it the provider ``lxc`` starts containers; it stays as their parent.
_MONITOR = "lxc-start"
_EVERY_S = 1.0
_KILL_WAIT_S = 5.0


@asynccontextmanager
async def adopted(own_children: Callable[[], set[int]]) -> AsyncIterator[None]:
    """Adopt orphans meanwhile; at the end kill every descendant that is left, but for containers.

    Args:
        own_children: the processes that somebody else in this process waits for.
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
    """Reap adopted zombies, each only when seen twice: a child of ours is reaped by then by whoever waits for it."""
    seen: set[int] = set()
    while True:
        zombies = _zombies() - own_children()
        _reap(zombies & seen)
        seen = zombies
        await asyncio.sleep(_EVERY_S)


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
    """Kill what is left below this process, and reap it; return how many there were."""
    killed = 0
    # A process may start another while it is being killed; that one is adopted and found in the next round.
    while left := [child for pid in _descendants() if (child := ProcessId.of(pid))]:
        for process in left:
            process.kill()
        killed += len(left)
        if wait_gone(left, _KILL_WAIT_S):
            break
    _reap(_zombies())
    return killed


def _descendants() -> list[int]:
    """All below this process, without containers and what runs in them."""
    parents = {}
    outside = set()
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            parents[child.pid] = child.ppid()
            if _holds_container(child):
                outside.add(child.pid)
    while more := {pid for pid, parent in parents.items() if parent in outside and pid not in outside}:
        outside |= more
    return [pid for pid in parents if pid not in outside]


def _holds_container(process: psutil.Process) -> bool:
    """Whether it is the monitor of a container: by its program, which it cannot choose, and only root's."""
    try:
        return process.uids().effective == 0 and Path(process.exe()).name == _MONITOR
    except psutil.AccessDenied:
        return False
