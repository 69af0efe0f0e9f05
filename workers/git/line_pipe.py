"""Pipe to which processes of git write lines, and from which this process reads them as they arrive."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

CHUNK: Final = 64 * 2**10
# A longer line is dropped.
MAX_LINE: Final = 64 * 2**10


class LinePipe:
    """Reading end of a pipe.

    Args:
        read: descriptor of the reading end.
        on_line: receives each complete line.
    """

    def __init__(self, read: int, on_line: Callable[[str], None]) -> None:
        self._read, self._on_line = read, on_line
        self._pending = b""
        self._too_long = False
        os.set_blocking(read, False)
        asyncio.get_running_loop().add_reader(read, self._pump)

    def _pump(self) -> bool:
        """Read once, and return whether there may be more."""
        try:
            chunk = os.read(self._read, CHUNK)
        except BlockingIOError:
            return False
        *lines, self._pending = (self._pending + chunk).split(b"\n")
        for line in lines:
            if not self._too_long:
                self._on_line(line.decode(errors="replace"))
            self._too_long = False
        if len(self._pending) > MAX_LINE:
            self._pending, self._too_long = b"", True
        return bool(chunk)

    def close(self) -> None:
        """Read what was written before, and close the pipe, also when a process still has its other end."""
        asyncio.get_running_loop().remove_reader(self._read)
        # A process that still writes must not keep this one here.
        for _ in range(16):
            if not self._pump():
                break
        os.close(self._read)


@contextlib.contextmanager
def inherited_pipe(on_line: Callable[[str], None]) -> Iterator[int]:
    """Provide the writing end of a pipe for processes that inherit it; all its lines are read when the block ends."""
    read, write = os.pipe()
    pipe = LinePipe(read, on_line)
    try:
        yield write
    finally:
        pipe.close()
        os.close(write)


@contextlib.contextmanager
def named_pipe(path: Path, on_line: Callable[[str], None]) -> Iterator[None]:
    """Provide a pipe in the file system, for a program that closes what it inherits."""
    os.mkfifo(path, 0o600)
    pipe = LinePipe(os.open(path, os.O_RDONLY | os.O_NONBLOCK), on_line)
    # A writer that ends must not look like the end of all lines.
    write = os.open(path, os.O_WRONLY)
    try:
        yield
    finally:
        pipe.close()
        os.close(write)
        path.unlink(missing_ok=True)
