"""Folder that one run of the demo uses alone."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from myctobot.contract import file_locks
from myctobot.demo.errors import DemoFailed
from myctobot.stack.home import OWNER_ONLY, PASS_THROUGH


def repositories_in(folder: Path) -> Path:
    """Return the folder of the demo's repositories, the only ones that its stack may use by ``file://``."""
    return folder / "repositories"


@contextmanager
def demo_folder(root: Path) -> Iterator[Path]:
    """Lock ``<root>/demo`` for one run, or create a temporary folder when another run has locked it.

    The folder is kept, so that the next run is faster. It is not the home of ``manage.py up``, because a demo must not
    run the waiting jobs of that stack.

    Raises:
        DemoFailed: the folder cannot be written.
    """
    folder, descriptor = root / "demo", None
    try:
        _make_folder(root)
        _make_folder(folder)
        with suppress(BlockingIOError):
            descriptor = file_locks.take(folder / "lock", wait=False)
    except OSError as error:
        raise DemoFailed(f"{folder} cannot be used: {error.strerror}. Make it writable, or remove it.") from error
    if descriptor is None:
        with _temporary_folder(root) as other:
            yield other
        return
    try:
        yield folder
    finally:
        file_locks.release(descriptor)


def _make_folder(folder: Path) -> None:
    if not folder.is_dir():
        folder.mkdir(parents=True)
        # When root runs the stack, PostgreSQL and the agents run as other users and must pass through.
        folder.chmod(PASS_THROUGH if os.geteuid() == 0 else OWNER_ONLY)


@contextmanager
def _temporary_folder(root: Path) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="demo-", dir=root))
    folder.chmod(PASS_THROUGH if os.geteuid() == 0 else OWNER_ONLY)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
