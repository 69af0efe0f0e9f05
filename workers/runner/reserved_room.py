"""Room on the disk of a job, so that the work of an agent that filled it can be collected."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Final

from workers.sandbox.disk_image import NO_SPACE

# One part for the files that the agent did not commit, of which git leaves halves behind, and one for all commits.
PARTS: Final = 2
# The agent may use the rest.
LARGEST_PART: Final = 10
# Git makes a file for each new object, and up to 256 folders. More files would delay the start of each job.
MAX_FILES: Final = 500


class ReservedRoom:
    """Room on the disk image of a job, for bytes and for files.

    Args:
        directory: existing folder of the runner on the image.
        wanted: bytes for each part; at most a tenth of the image's bytes and files is reserved in all.
    """

    def __init__(self, directory: Path, wanted: int) -> None:
        found = os.statvfs(directory)
        size = min(wanted, found.f_blocks * found.f_frsize // LARGEST_PART // PARTS)
        files = min(MAX_FILES, found.f_files // LARGEST_PART // PARTS)
        self._parts = [directory / f"reserved-{number}" for number in range(PARTS)]
        for part in self._parts:
            part.mkdir()
            _allocate(part / "bytes", size)
            _make_files(part, files)

    def release(self) -> None:
        """Free one part for the next step that collects work; further calls do nothing."""
        if self._parts:
            shutil.rmtree(self._parts.pop())


def _allocate(path: Path, size: int) -> None:
    """Make a file of this size; a disk that is full already has no room to reserve."""
    with path.open("xb") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, max(1, size))
        except OSError as error:
            if error.errno not in NO_SPACE:
                raise
            with suppress(OSError):
                os.ftruncate(file.fileno(), 0)


def _make_files(directory: Path, count: int) -> None:
    """Make empty files; a disk that is full already has none to reserve."""
    try:
        for number in range(count):
            (directory / f"file-{number}").touch(exist_ok=False)
    except OSError as error:
        if error.errno not in NO_SPACE:
            raise
