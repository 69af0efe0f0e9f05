"""Memory of a sandbox's processes where no memory controller counts it, as /proc shows it; see proc(5)."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Final

from workers.sandbox import process_tree

KB: Final = 1024
BLOCK: Final = 512
# Mounts of a sandbox that are in memory.
MEMORY_MOUNTS: Final = ("tmp", "dev/shm")
_RESIDENT: Final = re.compile(r"(\d+) kB")
_GONE: Final = (FileNotFoundError, ProcessLookupError)


def used_bytes(pids: Iterable[int], inits: Iterable[int]) -> int:
    """Return the memory of processes, with the memory files and file systems that no process has mapped.

    Pages of other files, such as programs, do not count: processes share them, and the kernel can take them back.
    Mapped pages of a memory file are resident pages too. The larger one of both sums counts, so that an honest
    program's shared memory does not count twice.

    Args:
        pids: processes of the sandbox.
        inits: first processes of its PID namespaces, whose mounts count.

    Raises:
        PermissionError: a process cannot be measured.
    """
    private = shared = 0
    memory_files: dict[tuple[int, int], int] = {}
    for pid in pids:
        folder, status = _measurable(pid)
        anonymous, shmem = (_kilobytes(status.get(name, "")) for name in ("RssAnon", "RssShmem"))
        private += anonymous * KB
        shared += shmem * KB
        memory_files |= _memory_files(folder)
    mounted = sum(_mounted_bytes(init) for init in inits)
    return private + max(shared, sum(memory_files.values()) + mounted)


def _measurable(pid: int) -> tuple[str, dict[str, str]]:
    """Return the folder in /proc of a thread that has the memory of a process, and its status."""
    status = process_tree.status(str(pid))
    if not status or _has_memory(status):
        return str(pid), status
    # The first thread has ended. Others may go on with the memory.
    with suppress(*_GONE):
        for thread in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208 - names, not paths
            folder = f"{pid}/task/{thread}"
            if _has_memory(of_thread := process_tree.status(folder)):
                return folder, of_thread
    return str(pid), status


def _has_memory(status: Mapping[str, str]) -> bool:
    return "VmRSS" in status


def _kilobytes(text: str) -> int:
    match = _RESIDENT.fullmatch(text)
    return int(match[1]) if match else 0


def _memory_files(folder: str) -> dict[tuple[int, int], int]:
    """Return the size of each memory file that a thread has open, by device and inode."""
    found: dict[tuple[int, int], int] = {}
    directory = f"/proc/{folder}/fd"
    try:
        with suppress(*_GONE):
            for name in os.listdir(directory):  # noqa: PTH208 - names, not paths
                with suppress(*_GONE):
                    found |= _memory_file(f"{directory}/{name}")
    except PermissionError:
        # The kernel refuses access to a thread that ends, too. It has no memory any more.
        if _has_memory(process_tree.status(folder)):
            raise
    return found


def _memory_file(path: str) -> dict[tuple[int, int], int]:
    # A file of a memory file system counts with its mount until it is deleted.
    if not os.readlink(path).startswith("/memfd:"):  # noqa: PTH115 - not the path of a file
        return {}
    info = os.stat(path)  # noqa: PTH116 - follows the link to the open file
    return {(info.st_dev, info.st_ino): info.st_blocks * BLOCK}


def _mounted_bytes(init: int) -> int:
    used = 0
    for name in MEMORY_MOUNTS:
        with suppress(*_GONE):
            inside = f"/proc/{init}/root/{name}"
            if os.stat(inside).st_dev == os.stat(f"/{name}").st_dev:  # noqa: PTH116 - /proc's link is followed
                # bubblewrap has not entered the sandbox's root yet, so this is the mount of the shard's machine.
                continue
            mount = os.statvfs(inside)
            used += (mount.f_blocks - mount.f_bfree) * mount.f_frsize
    return used
