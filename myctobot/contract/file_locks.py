"""Locks of files between processes, which the kernel releases when a process ends."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def take(path: Path, *, wait: bool) -> int:
    """Lock a file, which is created if it is missing, and return its descriptor for ``release``.

    Args:
        wait: whether to wait until no other process holds the lock.

    Raises:
        BlockingIOError: another process holds the lock, and ``wait`` is false.
        OSError: the file cannot be opened, or is a symbolic link.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def release(descriptor: int) -> None:
    """Release the lock of an open file, and close it.

    To close it is not enough: the kernel holds the lock until the last copy of the descriptor is closed. A process that
    another thread starts at this moment has copies until it becomes its program. Source: flock(2).
    """
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    os.close(descriptor)


@contextmanager
def held(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold the lock of a file until the block ends; see ``take``."""
    descriptor = take(path, wait=wait)
    try:
        yield
    finally:
        release(descriptor)
