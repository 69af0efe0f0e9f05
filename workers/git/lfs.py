"""Files of Git LFS: pointers in a commit, and contents that were committed where pointers belong.

See https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from workers.git.command import Git
from workers.git.large_changes import read_sizes
from workers.git.path_changes import parse_raw
from workers.git.process import Result
from workers.git.trees import open_reader

MAX_LISTING: Final = 64 * 2**20
# The specification bounds a pointer.
MAX_POINTER: Final = 1024
_SMALL: Final = re.compile(r"100[0-7]{3} blob ([0-9a-f]+) +([0-9]{1,4})\t")
_POINTER: Final = re.compile(
    rb"version https://git-lfs\.github\.com/spec/v1\n(?:[a-z0-9.-]+ [^\n]*\n)*"
    rb"oid sha256:([0-9a-f]{64})\nsize ([0-9]{1,15})\n"
)


class LfsObject(NamedTuple):
    """Content that a pointer names."""

    oid: str
    size: int

    def path(self, folder: Path) -> Path:
        """Return the place of the content as git-lfs has it."""
        return folder / self.oid[:2] / self.oid[2:4] / self.oid


def parse_pointer(data: bytes) -> LfsObject | None:
    """Return what a pointer names; None for any other file."""
    match = _POINTER.fullmatch(data) if len(data) <= MAX_POINTER else None
    return LfsObject(match[1].decode(), int(match[2])) if match else None


async def uses_lfs(git: Git, repository: Path, commit: str) -> bool:
    """Tell whether the attributes of a commit name Git LFS."""
    asked = ["grep", "-q", "-F", "-e", "filter=lfs", commit, "--", ".gitattributes", "*/.gitattributes"]
    return (await git.run(asked, cwd=repository)).returncode == 0


async def read_pointers(git: Git, repository: Path, commit: str, max_files: int) -> list[LfsObject]:
    """Return what the pointers of a commit name.

    Args:
        max_files: see ``open_reader``.
    """
    if not await uses_lfs(git, repository, commit):
        return []
    found = await git.run(["ls-tree", "-r", "-l", "-z", commit], cwd=repository, max_output=MAX_LISTING)
    sizes = [match for match in map(_SMALL.match, _text(found).split("\0")) if match]
    return await _read(git, repository, [match[1] for match in sizes if int(match[2]) <= MAX_POINTER], max_files)


async def new_pointers(git: Git, repository: Path, head: str, known: Sequence[str], max_files: int) -> list[LfsObject]:
    """Return what the pointers in the history of a commit name that are not in the history of known ones."""
    if not await uses_lfs(git, repository, head):
        return []
    listing = ["rev-list", "--objects", "--no-object-names", head, "--not", *known, "--"]
    names = (await git.run(listing, cwd=repository, max_output=MAX_LISTING)).text.split()
    sizes = await read_sizes(git, repository, names)
    small = [name for name, size in zip(names, sizes, strict=False) if size <= MAX_POINTER]
    return list(dict.fromkeys(await _read(git, repository, small, max_files)))


async def _read(git: Git, repository: Path, names: Sequence[str], max_files: int) -> list[LfsObject]:
    async with open_reader(git, repository, max_files) as reader:
        found = [parse_pointer(data) async for _, data in reader.read(names)]
    return [one for one in found if one is not None]


async def plain_contents(git: Git, repository: Path, base: str, head: str, max_files: int) -> list[str]:
    """Return the paths between two commits whose attributes name Git LFS and whose content is no pointer.

    Args:
        max_files: see ``open_reader``.
    """
    if not await uses_lfs(git, repository, head):
        return []
    listing = await git.run(
        ["diff-tree", "-r", "-z", "--raw", "--no-renames", "--diff-filter=d", base, head, "--"],
        cwd=repository,
        max_output=MAX_LISTING,
    )
    changes = [one for one in parse_raw(_text(listing)) if one.new_mode.startswith("100")]
    tracked = await _tracked(git, repository, head, [change.path for change in changes])
    changes = [one for one in changes if one.path in tracked]
    sizes = await read_sizes(git, repository, [one.new for one in changes])
    small = {one.new for one, size in zip(changes, sizes, strict=False) if size <= MAX_POINTER}
    async with open_reader(git, repository, max_files) as reader:
        pointers = {oid.decode() async for oid, data in reader.read(small) if parse_pointer(data)}
    return [one.path for one in changes if one.new not in pointers]


async def _tracked(git: Git, repository: Path, commit: str, paths: Sequence[str]) -> set[str]:
    """Return those of the paths whose attributes name Git LFS."""
    index = repository.parent / "attributes.index"
    env = {**(git.env or {}), "GIT_INDEX_FILE": str(index)}
    own = Git(git.home, git.config, env, git.pass_fds, git.max_file_mb, git.confinement, git.borrowed)
    try:
        await own.check(["read-tree", commit], cwd=repository)
        read = os.memfd_create("paths")
        try:
            os.write(read, "".join(f"{path}\0" for path in paths).encode(errors="surrogateescape"))
            os.lseek(read, 0, os.SEEK_SET)
            asked = ["check-attr", "--cached", "-z", "--stdin", "filter"]
            found = await own.run(asked, cwd=repository, stdin=read, max_output=MAX_LISTING)
        finally:
            os.close(read)
    finally:
        index.unlink(missing_ok=True)
    fields = _text(found).split("\0")
    return {path for path, value in zip(fields[::3], fields[2::3], strict=False) if value == "lfs"}


def _text(result: Result) -> str:
    return result.stdout.decode(errors="surrogateescape")
