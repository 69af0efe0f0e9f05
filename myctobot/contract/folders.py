"""Folders of ``file://`` repositories on this machine, opened without following symbolic links."""

from __future__ import annotations

import os
from typing import Final

# A handle like this one needs no permission to read the folder, only to pass through it.
_FLAGS: Final = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def open_folder(path: str) -> int:
    """Open a folder by its absolute path, name by name, and return a descriptor.

    Raises:
        FileNotFoundError: a name on the way is missing.
        NotADirectoryError: a name on the way is a symbolic link or a file.
        OSError: a folder on the way cannot be entered.
    """
    folder = os.open("/", _FLAGS)
    for name in path.strip("/").split("/"):
        try:
            inner = open_folder_in(folder, name)
        finally:
            os.close(folder)
        folder = inner
    return folder


def open_folder_in(folder: int, name: str) -> int:
    """Open a folder by its name in an open one, and return a descriptor; see ``open_folder`` for the errors."""
    return os.open(name, _FLAGS, dir_fd=folder)


def folder_problem(path: str) -> str | None:
    """Return why an absolute path must not be opened, or None; a missing folder is no problem."""
    try:
        os.close(open_folder(path))
    except NotADirectoryError:
        return "leads through a symbolic link or a file; name the real folder"
    except OSError:
        # The shard opens the folder again and reports this to the job.
        return None
    return None
