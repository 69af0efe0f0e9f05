"""Keeps what builds of templates download, so that the next build need not download it again."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from myctobot.contract import file_locks

CACHE: Final = Path("/var/cache/myctobot")
_UNUSED_AFTER_S: Final = 30 * 24 * 3600


@dataclass(frozen=True)
class Downloads:
    """A folder with the files of apt, pip and npm; each of these programs checks what it takes from there."""

    folder: Path

    @property
    def packages(self) -> Path:
        return self.folder / "apt"


@contextmanager
def downloads(cache: Path) -> Iterator[Downloads | None]:
    """Use the kept downloads until the block ends; None while another build uses them.

    apt gives up at once when another apt uses the same folder, so only one build at a time has it.
    """
    folder = cache / "downloads"
    for name in (Path("apt", "partial"), Path("pip"), Path("npm")):
        (folder / name).mkdir(mode=0o755, parents=True, exist_ok=True)
    try:
        lock = file_locks.take(cache / ".downloads.lock", wait=False)
    except BlockingIOError:
        yield None
        return
    try:
        _forget_old(folder)
        yield Downloads(folder)
    finally:
        file_locks.release(lock)


def _forget_old(folder: Path) -> None:
    """Delete what was downloaded long ago; packages of old releases would stay for ever."""
    oldest = time.time() - _UNUSED_AFTER_S
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):
            if path.is_file() and not path.is_symlink() and path.stat().st_ctime < oldest:
                path.unlink()
