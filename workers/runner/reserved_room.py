"""Room on the disk of a job, so that the work of an agent that filled it can be collected."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from workers.sandbox.disk_image import NO_SPACE

# One part for the files that the agent did not commit, of which git leaves halves behind, and one for all commits.
PARTS: Final = 2
# The agent may use the rest.
LARGEST_PART: Final = 10


class ReservedRoom:
    """Room on the disk image of a job.

    Args:
        directory: existing folder of the runner on the image.
        wanted: bytes for each part; at most a tenth of the image is reserved in all.
    """

    def __init__(self, directory: Path, wanted: int) -> None:
        found = os.statvfs(directory)
        size = min(wanted, found.f_blocks * found.f_frsize // LARGEST_PART // PARTS)
        self._parts = [directory / f"reserved-{number}" for number in range(PARTS)]
        for part in self._parts:
            _allocate(part, size)

    def release(self) -> None:
        """Free one part for the next step that collects work; further calls do nothing."""
        if self._parts:
            self._parts.pop().unlink(missing_ok=True)


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
