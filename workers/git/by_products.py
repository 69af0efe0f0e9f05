"""Files that tools leave behind and that no one wants in a commit; pure."""

from __future__ import annotations

import posixpath
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final

# Folders that hold what a tool can make again.
_FOLDERS: Final = frozenset(
    {
        *("node_modules", "bower_components", "__pycache__", ".pytest_cache", ".mypy_cache", ".ruff_cache"),
        *(".hypothesis", ".tox", ".nox", ".gradle", ".terraform", ".parcel-cache", ".turbo"),
    }
)
# A file with one of these names marks its folder as a Python environment or a cache; see bford.info/cachedir.
_MARKS: Final = frozenset({"pyvenv.cfg", "CACHEDIR.TAG"})
_FILES: Final = re.compile(r"\.DS_Store|Thumbs\.db|npm-debug\.log|[^/]*\.py[co]")
# A short file of such a name can be a page of a manual.
CORE_PATTERNS: Final = ("core", "core.[0-9]*", "vgcore.*")


def find_by_products(paths: Iterable[str], cores: Iterable[str] = ()) -> dict[str, int]:
    """Return the by-products among new files: folders that end with ``/``, and files, each with its number of files.

    Args:
        paths: paths of all new files.
        cores: those that are large and have a name as memory dumps have.
    """
    every = list(paths)
    marked = {posixpath.dirname(path) for path in every if posixpath.basename(path) in _MARKS}
    # A mark at the top says nothing about the project.
    marked.discard("")
    known, dumps = frozenset(marked), frozenset(cores)
    found: Counter[str] = Counter()
    for path in every:
        if (folder := _folder(path, known)) is not None:
            found[f"{folder}/"] += 1
        elif path in dumps or _FILES.fullmatch(posixpath.basename(path)):
            found[path] += 1
    return dict(found)


def _folder(path: str, marked: frozenset[str]) -> str | None:
    """Return the topmost folder above a path that is a by-product."""
    parts = path.split("/")
    for count in range(1, len(parts)):
        folder = "/".join(parts[:count])
        if parts[count - 1] in _FOLDERS or folder in marked:
            return folder
    return None


def described(found: Mapping[str, int]) -> list[str]:
    """Return by-products as texts."""
    return [f"{name} ({count:,} files)" if name.endswith("/") else name for name, count in sorted(found.items())]
