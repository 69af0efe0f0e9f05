"""Repositories of ``file://`` URLs, opened so that git cannot be led out of their folder.

The check at the submit cannot suffice, because files change until a shard runs the job. A descriptor holds the checked
folder, and git gets that descriptor instead of a path. So a link that appears later on the way changes nothing.
"""

from __future__ import annotations

import contextlib
import os
from typing import Final

from myctobot.contract.folders import open_folder, open_folder_in
from myctobot.contract.repositories import file_path, file_problem
from workers.errors import JobError

# Reading the names of this many files takes about a second.
MAX_FILES: Final = 1_000_000
# Each of these files makes git use another repository as well.
_LEADS_ELSEWHERE: Final = (".git", "commondir", "objects/info/alternates")
# No hook of the repository ever runs, and links to shared hooks are usual.
_NOT_USED: Final = "hooks"


def open_repository(url: str, roots: tuple[str, ...]) -> int:
    """Open and check the git folder of a ``file://`` URL, and return its descriptor, which the caller closes.

    Args:
        roots: folders below which such repositories are allowed, as absolute paths.

    Raises:
        JobError: ``repo_not_found``, or ``repo_folder_refused`` when the folder or a part of it leads elsewhere.
    """
    if problem := file_problem(url, roots):
        raise _refusal(problem)
    try:
        repository = _open_git_folder(file_path(url))
    except FileNotFoundError as error:
        raise JobError(
            "repo_not_found", "The repository of repo_url was not found on this shard's machine; check the path."
        ) from error
    except NotADirectoryError as error:
        raise _refusal("leads through a symbolic link or a file; name the real folder") from error
    except OSError as error:
        raise _refusal(f"cannot be opened on this shard ({error.strerror})") from error
    try:
        _check(repository)
    except BaseException:
        os.close(repository)
        raise
    return repository


def _open_git_folder(path: str) -> int:
    """Open ``.git`` of a working tree; a bare repository is its own git folder."""
    folder = open_folder(path)
    try:
        return open_folder_in(folder, ".git")
    except FileNotFoundError:
        return os.dup(folder)
    finally:
        os.close(folder)


def _check(repository: int) -> None:
    """Refuse a git folder that makes git read or write other files."""
    for name in _LEADS_ELSEWHERE:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            os.stat(name, dir_fd=repository, follow_symlinks=False)
            raise _refusal(f"uses another repository ({name}); give it all its objects and remove that file")
    try:
        link = _find_link(repository)
    except OSError as error:
        raise _refusal(f"cannot be read on this shard ({error.strerror})") from error
    if link is not None:
        raise _refusal(f"contains a symbolic link ({link[:200]}), which is not followed; replace it")


def _find_link(repository: int) -> str | None:
    """Return the path of a symbolic link in a git folder, or None."""
    pending, count = ["."], 0
    while pending:
        where = pending.pop()
        folder = os.open(where, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=repository)
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if (count := count + 1) > MAX_FILES:
                        raise _refusal(f"has more than {MAX_FILES:,} files; pack it with git gc")
                    path = entry.name if where == "." else f"{where}/{entry.name}"
                    if path == _NOT_USED:
                        continue
                    if entry.is_symlink():
                        return path
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(path)
        finally:
            os.close(folder)
    return None


def _refusal(problem: str) -> JobError:
    return JobError("repo_folder_refused", f"The repository of repo_url {problem}.")
