"""Trees of a repository, read through ``git cat-file --batch``; see gitformat-pack(5) and git-cat-file(1)."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Iterable
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple

from workers.errors import JobError
from workers.git.command import LOCAL_TIMEOUT_S, Git
from workers.git.process import start_process, timed_out
from workers.git.trace import NOTHING

TREE_MODE: Final = b"40000"
# Names that fit into a pipe together, so that writing them never waits for reading the answers.
_BATCH: Final = 64
# A single folder of this size has several hundred thousand files.
MAX_TREE_BYTES: Final = 32 * 2**20
MAX_DEPTH: Final = 1000
# The names of objects have 20 bytes with SHA-1 and 32 with SHA-256.
_ENTRIES: Final = {size: re.compile(rb"([0-7]{1,7}) ([^\0]+)\0(.{%d})" % size, re.DOTALL) for size in (20, 32)}


class Entry(NamedTuple):
    """Entry of a tree: a file, a link, a folder or a reference to another repository."""

    mode: bytes
    name: bytes
    oid: bytes

    @property
    def is_tree(self) -> bool:
        # Old tools wrote the mode of folders with a leading zero.
        return self.mode.lstrip(b"0") == TREE_MODE


class ObjectReader:
    """Reader of a repository's objects; get one from ``open_reader``."""

    def __init__(self, process: asyncio.subprocess.Process, max_files: int) -> None:
        if process.stdin is None or process.stdout is None:  # both were requested as pipes
            raise AssertionError("the process has no pipes")
        self._input, self._output = process.stdin, process.stdout
        self._max_files = max_files

    async def read(self, names: Iterable[str]) -> AsyncIterator[tuple[bytes, bytes]]:
        """Yield name and content of each object, in the order of the names.

        Raises:
            JobError: ``too_many_files`` for an object that is too large for a folder.
            EOFError: git has ended.
            ValueError: an object is missing.
        """
        pending = iter(names)
        while some := tuple(islice(pending, _BATCH)):
            self._input.write("".join(f"{name}\n" for name in some).encode())
            await self._input.drain()
            for _ in some:
                header = (await self._output.readuntil(b"\n")).split()
                if len(header) != 3:
                    raise ValueError("an object is missing")
                size = int(header[2])
                if size > MAX_TREE_BYTES:
                    raise too_many_files(self._max_files)
                yield header[0], (await self._output.readexactly(size + 1))[:-1]

    async def entries(self, name: str) -> list[Entry]:
        """Return the entries of a tree.

        Raises:
            JobError, EOFError, ValueError: see ``read``.
        """
        return [entry async for oid, data in self.read([name]) for entry in parse_tree(data, len(oid) // 2)]


def parse_tree(data: bytes, oid_size: int = 20) -> list[Entry]:
    """Return the entries of a tree from its content.

    Args:
        oid_size: length of an object's name in bytes.
    """
    return [Entry(*fields) for fields in _ENTRIES[oid_size].findall(data)]


@contextlib.asynccontextmanager
async def open_reader(
    git: Git, repository: Path, max_files: int, timeout_s: float = LOCAL_TIMEOUT_S
) -> AsyncIterator[ObjectReader]:
    """Start git for reading objects, until the block ends.

    Args:
        max_files: bound that ``too_many_files`` names.
        timeout_s: limit of the whole block.

    Raises:
        JobError: ``git_failed``, ``git_timeout``, or an error of ``Git.run``.
    """
    argv = git.command(["cat-file", "--batch"], timeout_s=timeout_s)
    pipe, nothing = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
    starting = start_process(argv, env=git.environment(), cwd=repository, stdin=pipe, stderr=nothing)
    try:
        with git.bounded() as check:
            async with starting as process, asyncio.timeout(timeout_s):
                try:
                    yield ObjectReader(process, max_files)
                except (EOFError, ConnectionError) as error:
                    check(await process.wait(), NOTHING)
                    raise _unreadable("git ended early") from error
                except ValueError as error:
                    raise _unreadable(str(error)) from error
    except TimeoutError as error:
        raise timed_out(timeout_s) from error


async def count_paths(git: Git, repository: Path, commit: str, max_files: int) -> int:
    """Return the number of files and folders of a commit, as they would be in a working tree.

    A few small trees can name any number of paths by naming each other many times. So equal trees of one depth are read
    once and counted as often as they occur. The count ends at the bound, so it reads at most that many trees.

    Raises:
        JobError: ``too_many_files``, ``git_failed``, ``git_timeout``, or an error of ``Git.run``.
    """
    total = 0
    level = {f"{commit}^{{tree}}": 1}
    async with open_reader(git, repository, max_files) as reader:
        for _ in range(MAX_DEPTH):
            below: dict[str, int] = {}
            times = iter(level.values())
            async for name, data in reader.read(level):
                occurrences = next(times)
                entries = parse_tree(data, len(name) // 2)
                total += occurrences * len(entries)
                if total > max_files:
                    raise too_many_files(max_files)
                for entry in entries:
                    if entry.is_tree:
                        oid = entry.oid.hex()
                        below[oid] = below.get(oid, 0) + occurrences
            if not below:
                return total
            level = below
    raise JobError("too_many_files", f"A commit has more than {MAX_DEPTH} folders inside each other; use fewer.")


def too_many_files(max_files: int) -> JobError:
    return JobError(
        "too_many_files",
        f"A commit has more than {max_files:,} files and folders, which is this shard's bound; exclude build results "
        "by .gitignore, or ask the operator to raise git.max_files.",
    )


def _unreadable(detail: str) -> JobError:
    return JobError("git_failed", f"The shard could not read the repository; try again: {detail}.", retryable=True)
