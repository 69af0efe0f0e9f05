"""Files and folders of a range of commits that are larger than a person may expect."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from workers.git.command import Git
from workers.git.path_changes import parse_raw

MANY_FILES: Final = 1000
LARGE_FILE: Final = 10 * 2**20
MAX_LISTING: Final = 64 * 2**20


@dataclass(frozen=True)
class NewFile:
    """File that commits add or change.

    Args:
        size: bytes of its content.
        is_new: whether it did not exist before.
    """

    path: str
    size: int
    is_new: bool


def describe_large(files: Iterable[NewFile], existing: Iterable[str]) -> list[str]:
    """Return texts for large files, and for new folders with many files.

    Args:
        existing: folders that existed before.
    """
    before = frozenset(existing)
    counts: Counter[str] = Counter()
    texts = []
    for file in files:
        if file.size >= LARGE_FILE:
            texts.append(f"{file.path} ({file.size / 2**20:,.0f} MB)")
        if file.is_new and (folder := _new_folder(file.path, before)) is not None:
            counts[folder] += 1
    texts += [f"{folder}/ ({count:,} files)" for folder, count in counts.items() if count >= MANY_FILES]
    return texts


def _new_folder(path: str, existing: frozenset[str]) -> str | None:
    parts = path.split("/")
    names = ("/".join(parts[:count]) for count in range(1, len(parts)))
    return next((name for name in names if name not in existing), None)


async def find_large(git: Git, repository: Path, base: str, head: str) -> list[str]:
    """Return texts for the large files, and for the new folders with many files, between two commits."""
    listing = ["diff-tree", "-r", "-z", "--raw", "--no-renames", "--diff-filter=d", base, head, "--"]
    found = await git.run(listing, cwd=repository, max_output=MAX_LISTING)
    changes = [one for one in parse_raw(found.stdout.decode(errors="surrogateescape")) if one.new_mode != "160000"]
    sizes = await read_sizes(git, repository, [one.new for one in changes])
    files = [NewFile(one.path, size, one.old_mode == "000000") for one, size in zip(changes, sizes, strict=False)]
    if sum(file.is_new for file in files) < MANY_FILES:
        return describe_large(files, ())
    folders = await git.run(["ls-tree", "-r", "-d", "-z", "--name-only", base], cwd=repository, max_output=MAX_LISTING)
    return describe_large(files, folders.stdout.decode(errors="surrogateescape").split("\0"))


async def read_sizes(git: Git, repository: Path, names: Iterable[str]) -> list[int]:
    """Return the size of each object; 0 for one that does not exist."""
    read = os.memfd_create("objects")
    try:
        with os.fdopen(os.dup(read), "w") as file:
            file.writelines(f"{name}\n" for name in names)
        os.lseek(read, 0, os.SEEK_SET)
        asked = ["cat-file", "--batch-check=%(objectsize)"]
        sizes = await git.run(asked, cwd=repository, stdin=read, max_output=MAX_LISTING)
    finally:
        os.close(read)
    return [int(line) if line.isdigit() else 0 for line in sizes.text.split("\n")[:-1]]
