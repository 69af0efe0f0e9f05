"""Lines of git's attribute and ignore files for single paths; see gitattributes(5) and gitignore(5)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import islice
from typing import Final

# git compares each path with each line, so their number needs a bound.
MAX_VERBATIM_LINES: Final = 20_000
# With these attributes git changes no line end, keyword or content. The encoding stays: the file on disk has it.
_VERBATIM: Final = "-text !eol !ident !filter"
# With these attributes git stores the bytes of a file as they are, and writes them as they are stored.
AS_IS: Final = f"{_VERBATIM} !working-tree-encoding"
_SPECIAL: Final = re.compile(r"([*?\[\\])")
_QUOTED: Final = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r"}
_HEAD: Final = (
    "# Without these lines, git would rewrite files that are stored otherwise than .gitattributes asks.\n"
    "# Remove lines to convert their files.\n"
)


def verbatim_lines(paths: Iterable[str]) -> str:
    """Return attribute lines that keep the bytes of these paths; empty without a path."""
    lines = [f'"/{_quote(escape_pattern(path))}" {_VERBATIM}\n' for path in islice(paths, MAX_VERBATIM_LINES)]
    return _HEAD + "".join(lines) if lines else ""


def escape_pattern(path: str) -> str:
    """Return a pattern that matches exactly this path."""
    return _SPECIAL.sub(r"\\\1", path)


def ignore_line(path: str) -> str:
    """Return the line that ignores a path, or a folder alone if it ends with a slash.

    An ignore file cannot name a line break, so ``?`` matches it.
    """
    return f"/{escape_pattern(path).replace(chr(10), '?')}"


def _quote(pattern: str) -> str:
    return "".join(_QUOTED.get(char, char) for char in pattern)
