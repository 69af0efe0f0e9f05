"""Removing what a hostile agent left on the disk."""

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
    """Delete a directory with all below it, whatever its modes and its depth; symlinks are never followed.

    Directories below are first moved to the top one by one, so neither the depth of the tree nor the length
    of its paths matters, and two open directories are enough. A missing ``path`` is fine.

    Raises:
        OSError: something cannot be deleted, such as a mount point.
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
    """Move a directory's own directories up beside it, and delete it."""
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
    """Delete what is no directory, and return the names of the directories."""
    names: list[str] = []
    for name in os.listdir(directory):
        if stat.S_ISDIR(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode):
            names.append(name)
        else:
            os.unlink(name, dir_fd=directory)
    return names


def _make_usable(name: str, parent: int | None) -> None:
    """Give the owner every right on a directory, through a handle that follows no symlink."""
    handle = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=parent)
    try:
        os.chmod(f"/proc/self/fd/{handle}", 0o700)  # noqa: PTH101 - a path would be followed
    finally:
        os.close(handle)
