"""Names of refs and paths for people; pure. The agent chose them, so each text is bounded."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from workers.git.process import printable_line

MAX_NAMED: Final = 10
MAX_NAME: Final = 200
_KINDS: Final = {"refs/heads/": "branch ", "refs/tags/": "tag ", "refs/remotes/": "remote branch ", "refs/": "ref "}


def named(ref: str) -> str:
    """Return a ref's name for people."""
    for prefix, kind in _KINDS.items():
        if ref.startswith(prefix):
            return kind + ref.removeprefix(prefix)
    return ref


def listed(names: Iterable[str]) -> str:
    """Return names as one bounded text."""
    every = [printable_line(name)[:MAX_NAME] for name in names]
    more = f" and {len(every) - MAX_NAMED} more" if len(every) > MAX_NAMED else ""
    return ", ".join(every[:MAX_NAMED]) + more
