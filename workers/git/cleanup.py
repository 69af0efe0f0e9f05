"""Removal of files that a hostile agent left on the disk."""

from __future__ import annotations

import itertools
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def remove_tree(path: Path) -> None:
    """Delete a directory tree of any depth and with any file modes; symbolic links are never followed.

    Each inner directory is first moved to the top, so the depth of the tree and the length of its paths do not matter,
    and two open directories are enough. A missing ``path`` is no error.

    Raises:
        OSError: a file cannot be deleted, such as a mount point.
    """
    prefix = f".{secrets.token_hex(8)}-"
    unused = (f"{prefix}{number}" for number in itertools.count())
    try:
        _make_usable(str(path), None)
        top = os.open(path, _DIRECTORY)
    except FileNotFoundError:
        return
    try:
        while names := _delete_files(top):
            for name in names:
                _flatten(top, name, unused)
    finally:
        os.close(top)
    path.rmdir()


def _flatten(top: int, name: str, unused: Iterator[str]) -> None:
    """Move the directories in a directory to the top, and delete the directory."""
    _make_usable(name, top)
    directory = os.open(name, _DIRECTORY, dir_fd=top)
    try:
        for inner in _delete_files(directory):
            _make_usable(inner, directory)
            os.rename(inner, next(unused), src_dir_fd=directory, dst_dir_fd=top)
    finally:
        os.close(directory)
    os.rmdir(name, dir_fd=top)


def _delete_files(directory: int) -> list[str]:
    """Delete everything except directories, and return the names of the directories."""
    names: list[str] = []
    for name in os.listdir(directory):
        if stat.S_ISDIR(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode):
            names.append(name)
        else:
            os.unlink(name, dir_fd=directory)
    return names


def _make_usable(name: str, parent: int | None) -> None:
    """Give the owner every permission on a directory, through a handle that follows no symbolic link."""
    handle = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=parent)
    try:
        os.chmod(f"/proc/self/fd/{handle}", 0o700)  # noqa: PTH101 - a path would be followed
    finally:
        os.close(handle)
