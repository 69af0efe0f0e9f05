"""Project notes for agents in a repository, read from the objects of a commit.

The forms are those that projects use: ``CLAUDE.md``, ``.claude/CLAUDE.md`` or ``AGENTS.md``, each as a file or as a
link within the repository, and ``@path`` imports. The checkout's files are never read, because links in it could lead
anywhere.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from workers.git.command import Git
from workers.git.process import printable_line

FIRST: Final = ("CLAUDE.md", ".claude/CLAUDE.md")
# This form counts only where the others do not exist.
OTHERWISE: Final = "AGENTS.md"
MAX_BYTES: Final = 64 * 2**10
MAX_FILES: Final = 20
MAX_DEPTH: Final = 5
MAX_PATH: Final = 1000
MAX_NAMED: Final = 20
MAX_NAME: Final = 200
_ROOM_FOR_HEADER: Final = 2000
_FENCE: Final = re.compile(r" {0,3}(`{3,}|~{3,})")
# A code span of CommonMark ends with as many backticks as it begins with.
_CODE: Final = re.compile(r"(?<!`)(`+)(?!`).*?(?<!`)\1(?!`)")
_IMPORT: Final = re.compile(r"(?<!\S)@((?:\\ |[^\s`])+)")
# Answers of git for a path behind links, which it follows within the commit only.
_REASONS: Final = {
    "missing": "there is no such file",
    "dangling": "its link leads to no file",
    "symlink": "its link leads out of the repository",
    "loop": "its links lead in a circle",
    "notdir": "a part of its path is not a folder",
    "tree": "it is a folder",
    "commit": "it is a submodule",
}


class Notes(NamedTuple):
    """Notes of a project: untrusted text of at most ``MAX_BYTES``, the files it is from, and lines for the log."""

    text: str | None
    source: str
    log: tuple[str, ...]


class _NotesFile(NamedTuple):
    oid: str
    data: bytes
    size: int


@dataclass
class _Collection:
    """Notes collected so far."""

    parts: list[str] = field(default_factory=list)
    used: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    oids: set[str] = field(default_factory=set)
    room: int = MAX_BYTES
    reads: int = 0

    def refuse(self, path: str, reason: str) -> None:
        self.refused.append(f"{printable_line(path)[:MAX_NAME]} ({reason})")

    def add(self, path: str, file: _NotesFile) -> str:
        """Add a file as far as there is room, and return the text that was added."""
        kept = file.data[: self.room]
        if len(kept) < file.size:
            self.refuse(path, f"only its first {len(kept):,} bytes fit into {MAX_BYTES // 2**10} KB")
        self.room -= len(kept)
        text = kept.decode(errors="replace")
        if kept:
            self.parts.append(text)
            self.used.append(printable_line(path)[:MAX_NAME])
        return text


async def read_notes(git: Git, repository: Path, commit: str) -> Notes:
    """Read the notes of a commit.

    Raises:
        JobError: an error of ``Git.run``.
    """
    found = _Collection()
    reader = _Reader(git, repository, commit)
    for path in FIRST:
        file = await reader.read(path)
        if isinstance(file, _NotesFile):
            await _take(reader, found, path, file)
        elif file != "missing":
            found.refuse(path, _REASONS[file])
    other = await reader.read(OTHERWISE)
    if isinstance(other, _NotesFile) and other.oid not in found.oids:
        if found.used:
            found.refuse(OTHERWISE, f"{found.used[0]} comes first and does not import it")
        else:
            await _take(reader, found, OTHERWISE, other)
    elif isinstance(other, str) and other != "missing":
        found.refuse(OTHERWISE, _REASONS[other])
    return _notes(found)


async def _take(reader: _Reader, found: _Collection, path: str, file: _NotesFile, depth: int = 0) -> None:
    """Add a file and, after it, the files that it imports."""
    if file.oid in found.oids:
        return
    found.oids.add(file.oid)
    text = found.add(path, file)
    for name in find_imports(text):
        target = resolve(posixpath.dirname(path), name)
        if target is None:
            found.refuse(name, "it is outside of the repository")
        elif depth == MAX_DEPTH:
            found.refuse(target, f"imports go at most {MAX_DEPTH} files deep")
        elif found.reads == MAX_FILES:
            found.refuse(target, f"at most {MAX_FILES} imports are read")
            return
        else:
            found.reads += 1
            imported = await reader.read(target)
            if isinstance(imported, _NotesFile):
                await _take(reader, found, target, imported, depth + 1)
            elif imported != "missing" or _is_file_name(name):
                found.refuse(target, _REASONS[imported])


def _notes(found: _Collection) -> Notes:
    log = []
    if found.used:
        log.append(f"Project notes for the agent: {_listed(found.used)}")
    else:
        log.append(f"No project notes for the agent: none of {', '.join((*FIRST, OTHERWISE))} could be used")
    if found.refused:
        log.append(f"Not passed on as project notes: {_listed(found.refused)}")
    return Notes("\n\n".join(found.parts) or None, _listed(found.used), tuple(log))


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return ", ".join(names[:MAX_NAMED]) + more


def _is_file_name(name: str) -> bool:
    # A mention such as "@alice" is usual in prose, and it is no import.
    return "/" in name or "." in name


def find_imports(text: str) -> Iterator[str]:
    """Yield the paths that notes import as ``@path``; code blocks and code spans import nothing."""
    fence = ""
    for line in text.splitlines():
        if match := _FENCE.match(line):
            mark = match[1]
            if not fence:
                fence = mark
            elif mark.startswith(fence):
                fence = ""
        elif not fence:
            for name in _IMPORT.findall(_CODE.sub(" ", line)):
                if path := name.replace("\\ ", " ").rstrip(".,;:!?)"):
                    yield path


def resolve(folder: str, path: str) -> str | None:
    """Return a path from a folder of the repository, or None when it leads out of it."""
    if path.startswith(("/", "~")) or len(path) > MAX_PATH or not path.isprintable():
        return None
    joined = posixpath.normpath(posixpath.join(folder, path))
    return None if joined == ".." or joined.startswith("../") else joined


class _Reader:
    """Reader of a commit's files by path."""

    def __init__(self, git: Git, repository: Path, commit: str) -> None:
        self._git, self._repository, self._commit = git, repository, commit

    async def read(self, path: str) -> _NotesFile | str:
        """Return the beginning of a file, or the kind of git's answer when there is none."""
        read, write = os.pipe()
        try:
            # The line is short enough for the pipe.
            os.write(write, f"{self._commit}:{path}\n".encode())
            os.close(write)
            shown = await self._git.run(
                ["cat-file", "--batch", "--follow-symlinks"],
                cwd=self._repository,
                stdin=read,
                max_output=MAX_BYTES + _ROOM_FOR_HEADER,
            )
        finally:
            os.close(read)
        header, _, data = shown.stdout.partition(b"\n")
        words = header.decode(errors="replace").split(" ")
        if len(words) == 3 and words[1] == "blob" and words[2].isdigit():
            size = int(words[2])
            return _NotesFile(words[0], data[:size], size)
        kinds = (words[0], words[1] if len(words) == 3 else "", words[-1])
        return next((kind for kind in kinds if kind in _REASONS), "missing")
