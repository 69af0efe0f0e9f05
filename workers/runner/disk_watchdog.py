"""Watchdog that ends a job before it fills the disk of its workspace."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from workers.errors import JobError

T = TypeVar("T")

MB: Final = 2**20
CHECK_EVERY_S: Final = 0.2
# A small disk would have no room for a job if the minimum were not a part of it.
LARGEST_PART: Final = 5
MIN_FREE_FILES: Final = 10_000


@dataclass(frozen=True)
class FreeSpace:
    """Free space of a file system in bytes, and its free files, with the total of both.

    Some file systems have no number of files; their total is 0.
    """

    bytes: int
    total_bytes: int
    files: int
    total_files: int


def read_free_space(path: Path) -> FreeSpace:
    """Return the free space that processes without privileges may use.

    Raises:
        OSError: the path does not exist.
    """
    found = os.statvfs(path)
    return FreeSpace(found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize, found.f_favail, found.f_files)


def shortage(free: FreeSpace, min_free_mb: int) -> str | None:
    """Return what a disk has too little of, or None.

    Args:
        min_free_mb: minimum in MB; at most a fifth of the disk counts.
    """
    minimum = min(min_free_mb * MB, free.total_bytes // LARGEST_PART)
    if free.bytes < minimum:
        return f"{free.bytes // MB} MB left, less than the minimum of {minimum // MB} MB"
    fewest = min(MIN_FREE_FILES, free.total_files // LARGEST_PART)
    if free.files < fewest:
        return f"room for {free.files:,} more files, less than the minimum of {fewest:,}"
    return None


class DiskWatchdog:
    """Watchdog over the free space of a job's disk.

    Args:
        path: folder on the disk.
        min_free_mb: see ``shortage``.
        read: reads the free space.
    """

    def __init__(self, path: Path, min_free_mb: int, read: Callable[[Path], FreeSpace] = read_free_space) -> None:
        self._path, self._min_free_mb, self._read = path, min_free_mb, read

    async def watch(self, work: Coroutine[Any, Any, T], kill: Callable[[], Awaitable[object]]) -> T:
        """Run the job's work and return its result.

        Args:
            work: coroutine that uses the disk.
            kill: kills the agent's processes.

        Raises:
            JobError: ``disk_limit``, the disk fell below its minimum and the work was ended.
        """
        doing = asyncio.create_task(work)
        try:
            while not doing.done():
                if problem := shortage(self._read(self._path), self._min_free_mb):
                    # Kill first, because only a dead agent writes no more.
                    await kill()
                    raise JobError(
                        "disk_limit",
                        f"The job was ended because the shard's disk has {problem}; "
                        "write less at once, or ask an operator for a larger disk.",
                        retryable=True,
                    )
                await asyncio.wait({doing}, timeout=CHECK_EVERY_S)
            return await doing
        finally:
            doing.cancel()
            await asyncio.gather(doing, return_exceptions=True)
