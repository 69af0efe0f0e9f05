"""Further work trees of an agent's repository. Those in the agent's /tmp end with the agent, and their indexes stay."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass
from typing import Final

# Work trees whose index is read. An honest agent makes a few.
MAX_TREES: Final = 50
_FIELDS: Final = 3

# Prints the lasting folders, and for each work tree its name, its path and '+' if its files are still there.
LIST_TREES: Final = r"""
printf '%s\0%s\0\0' "$(pwd -P)" "$(cd "$HOME" && pwd -P)"
cd "$1/worktrees" 2>/dev/null || exit 0
for name in *; do
  if ! [ -f "$name/gitdir" ]; then continue; fi
  file=$(head -c 4096 "$name/gitdir" | tr -d '\0')
  case $file in /*) ;; *) file=$PWD/$name/$file ;; esac
  printf '%s\0%s\0' "$name" "${file%/.git}"
  if [ -f "$file" ]; then printf +; fi
  printf '\0'
done
"""


@dataclass(frozen=True)
class WorkTree:
    """Further work tree.

    Args:
        name: name of its folder in ``.git/worktrees``.
        path: folder of its files.
        is_there: whether its files exist.
        is_inside: whether it is inside the workspace.
        lasts: whether its files would exist if the agent had not removed them.
    """

    name: str
    path: str
    is_there: bool
    is_inside: bool
    lasts: bool


def parse_trees(text: str) -> list[WorkTree]:
    """Parse the output of ``LIST_TREES``."""
    fields = text.split("\0")
    rows = [fields[at : at + _FIELDS] for at in range(0, len(fields) - _FIELDS, _FIELDS)]
    if not rows:
        return []
    workspace, home, _ = rows[0]
    found = []
    for name, path, mark in rows[1:]:
        folder = posixpath.normpath(path)
        is_inside = _is_below(folder, workspace)
        found.append(WorkTree(name, folder, mark == "+", is_inside, is_inside or _is_below(folder, home)))
    return found


def _is_below(path: str, folder: str) -> bool:
    return path.startswith(f"{folder}/")
