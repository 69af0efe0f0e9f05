"""The folder that one run of the demo has to itself."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from myctobot.demo.errors import DemoFailed
from myctobot.stack.home import OWNER_ONLY, PASS_THROUGH


@contextmanager
def demo_folder(root: Path) -> Iterator[Path]:
    """Hold ``<root>/demo``, which is kept, so that the next run is faster; another run meanwhile gets one that is not.

    It is not the home of ``manage.py up``: that may hold waiting jobs of its owner, which a demo must not run.

    Raises:
        DemoFailed: the folder cannot be written.
    """
    folder = root / "demo"
    try:
        _make(root)
        _make(folder)
        descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise DemoFailed(f"{folder} cannot be used: {error.strerror}. Make it writable or remove it.") from error
    try:
        if _is_locked(descriptor):
            yield folder
        else:
            with _folder_for_once(root) as other:
                yield other
    finally:
        os.close(descriptor)


def _make(folder: Path) -> None:
    if not folder.is_dir():
        folder.mkdir(parents=True)
        # PostgreSQL and agents have users of their own when root runs the stack.
        folder.chmod(PASS_THROUGH if os.geteuid() == 0 else OWNER_ONLY)


def _is_locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def _folder_for_once(root: Path) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="demo-", dir=root))
    folder.chmod(PASS_THROUGH if os.geteuid() == 0 else OWNER_ONLY)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
