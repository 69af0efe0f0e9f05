"""Watchdog that ends a job at the bounds of its disk image, and before it fills the disk of its workspace."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from workers.errors import JobError
from workers.sandbox.disk_image import NO_SPACE, DiskImage, sync

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
        path: folder on the shard's disk.
        min_free_mb: see ``shortage``.
        image: disk image of the job, where jobs have one.
        read: reads the free space.
    """

    def __init__(
        self,
        path: Path,
        min_free_mb: int,
        image: DiskImage | None = None,
        read: Callable[[Path], FreeSpace] = read_free_space,
    ) -> None:
        self._path, self._min_free_mb, self._image, self._read = path, min_free_mb, image, read
        self._syncing: asyncio.Future[None] | None = None

    def check(self) -> None:
        """Fail if a bound is reached.

        Raises:
            JobError: ``disk_limit``.
        """
        if problem := self._problem():
            raise problem

    def _problem(self) -> JobError | None:
        if self._image is not None and (bound := self._image.reached_bound()):
            return _bound_error(bound)
        if problem := shortage(self._read(self._path), self._min_free_mb):
            return JobError(
                "disk_limit",
                f"The job was ended because the shard's disk has {problem}; "
                "write less at once, or ask an operator for a larger disk.",
                retryable=True,
            )
        return None

    async def watch(self, work: Coroutine[Any, Any, T], kill: Callable[[], Awaitable[object]]) -> T:
        """Run the job's work and return its result.

        Args:
            work: coroutine that uses the disk.
            kill: kills the agent's processes.

        Raises:
            JobError: ``disk_limit``, a bound was reached and the work was ended, or the work failed because of one.
        """
        doing = asyncio.create_task(work)
        try:
            while not doing.done():
                self._start_sync()
                if problem := self._problem():
                    # Kill first, because only a dead agent writes no more.
                    await kill()
                    raise problem
                await asyncio.wait({doing}, timeout=CHECK_EVERY_S)
            try:
                return await doing
            except (JobError, OSError) as error:
                raise self._cause(error) or error from error
        finally:
            doing.cancel()
            await asyncio.gather(doing, return_exceptions=True)

    def _start_sync(self) -> None:
        """Write what waits in memory into the image, because the shard's free space does not contain it yet."""
        if self._image is None or (self._syncing is not None and not self._syncing.done()):
            return
        if (descriptor := self._image.descriptor()) is not None:
            # The disk may be slow, and the watchdog must not wait for it.
            self._syncing = asyncio.get_running_loop().run_in_executor(None, sync, descriptor)

    def _cause(self, error: JobError | OSError) -> JobError | None:
        """Return the bound that made the work fail, or None for another reason or without an image."""
        if self._image is None:
            return None
        if problem := self._problem():
            return problem
        # A program that finds no space may remove its files before it ends.
        no_space = error.code == "disk_full" if isinstance(error, JobError) else error.errno in NO_SPACE
        return _bound_error(self._image.bounds) if no_space else None


def _bound_error(bound: str) -> JobError:
    message = f"The job was ended because it reached {bound}; write less, or ask an operator to raise the bound."
    return JobError("disk_limit", message)
