"""Raw differences between two trees, as git prints them; pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

GITLINK: Final = "160000"
ABSENT: Final = "000000"


class PathChange(NamedTuple):
    """Difference of one path between two trees, with modes and objects on both sides."""

    old_mode: str
    new_mode: str
    old: str
    new: str
    path: str


def parse_raw(text: str) -> list[PathChange]:
    """Parse the output of ``git diff --raw -z`` without renames."""
    fields = text.split("\0")
    found = []
    for meta, path in zip(fields[::2], fields[1::2], strict=False):
        words = meta.lstrip(":").split(" ")
        if len(words) == 5:
            found.append(PathChange(words[0], words[1], words[2], words[3], path))
    return found


def parse_links(text: str) -> dict[str, str]:
    """Return the commit of each link to another repository by its path, from entries that end with a NUL.

    The entries are those of ``git ls-tree -r -z`` or of ``git ls-files -z --stage``.
    """
    found = {}
    for entry in text.split("\0"):
        head, _, path = entry.partition("\t")
        words = head.split(" ")
        if len(words) == 3 and words[0] == GITLINK:
            found[path] = words[2] if words[1] == "commit" else words[1]
    return found


def skipped_removals(changes: Iterable[PathChange], skipped: Iterable[str]) -> list[PathChange]:
    """Return the removals of paths that a sparse checkout leaves out, where nothing else took their place.

    Args:
        skipped: the paths that it leaves out.
    """
    every, names = list(changes), set(skipped)
    present = {change.path for change in every if change.new_mode != ABSENT}
    folders = {folder for path in present for folder in _folders(path)}
    return [
        change
        for change in every
        if change.new_mode == ABSENT
        and change.path in names
        and change.path not in folders
        and present.isdisjoint(_folders(change.path))
    ]


def _folders(path: str) -> list[str]:
    """Return the folders above a path."""
    parts = path.split("/")
    return ["/".join(parts[:count]) for count in range(1, len(parts))]
