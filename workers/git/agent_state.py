"""Refs of an agent's repository, read from its files; pure. The agent may have written anything into them.

Git itself refuses a repository with a damaged HEAD or configuration, but the refs in it still name the agent's commits.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

# Refs of one repository that are read. An honest agent makes a few.
MAX_REFS: Final = 10_000
MAX_STASHES: Final = 50
MAX_LEFT_HEADS: Final = 50
_SHA: Final = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_LEFT_DETACHED: Final = re.compile(r"checkout: moving from ([0-9a-f]{40}|[0-9a-f]{64}) to ")
_WORKTREE_HEAD: Final = re.compile(r"worktrees/([^/]+)/HEAD")

# Script for the folder of a repository; each section begins with a line that starts with '@'.
READ_STATE: Final = r"""
cd "$1" 2>/dev/null || exit 0
show() { if [ -f "$1" ]; then tail -c "$2" "$1"; fi; echo; }
echo @packed; if [ -f packed-refs ]; then
  grep -a -v ' refs/tags/' packed-refs | head -c 4000000; echo
  grep -a ' refs/tags/' packed-refs | head -c 4000000
fi; echo
echo @refs; grep -rHs -D skip --exclude='*.lock' '' HEAD refs worktrees/*/HEAD | head -c 4000000; echo
echo @stash; show logs/refs/stash 1000000
echo @log; for file in worktrees/*/logs/HEAD; do show "$file" 1000000; done | head -c 4000000; show logs/HEAD 4000000
echo @merged; show MERGE_HEAD 4000
echo @objects; if [ -d objects ]; then find objects -type f | wc -l; fi
"""


@dataclass(frozen=True)
class AgentState:
    """State of a repository.

    Args:
        head: commit of HEAD, or None when it has none that can be read.
        refs: object of each ref, and of the HEAD of each further worktree.
        stashes: stashed commits, the newest first.
        left_heads: commits from which a checkout moved away while HEAD was detached.
        merged: further parents of a merge that is not committed.
        objects: number of files with objects.
    """

    head: str | None = None
    refs: dict[str, str] = field(default_factory=dict)
    stashes: tuple[str, ...] = ()
    left_heads: tuple[str, ...] = ()
    merged: tuple[str, ...] = ()
    objects: int = 0


def parse_state(text: str) -> AgentState:
    """Parse the output of ``READ_STATE``; unknown lines are ignored."""
    sections: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in text.split("\n"):
        if line.startswith("@"):
            lines = sections.setdefault(line[1:], [])
        else:
            lines.append(line)
    refs = dict(_packed(sections.get("packed", ())))
    files = dict(_loose(sections.get("refs", ())))
    refs |= {name: value for name, value in files.items() if name.startswith("refs/")}
    for name, value in files.items():
        if match := _WORKTREE_HEAD.fullmatch(name):
            refs[f"worktree {match[1]}"] = value
    # A repository may have more tags than that, and none of them hides a branch.
    names = sorted(refs, key=lambda name: name.startswith("refs/tags/"))[:MAX_REFS]
    resolved = {name: sha for name in names if (sha := _resolve(refs[name], refs))}
    stashes = [words[1] for line in sections.get("stash", ()) if len(words := line.split(" ")) > 1]
    return AgentState(
        _resolve(files.get("HEAD", ""), refs),
        resolved,
        tuple(sha for sha in _newest(stashes) if _SHA.fullmatch(sha))[:MAX_STASHES],
        tuple(_newest(_left_heads(sections.get("log", ()))))[:MAX_LEFT_HEADS],
        tuple(line for line in sections.get("merged", ()) if _SHA.fullmatch(line)),
        next((int(line) for line in sections.get("objects", ()) if line.strip().isdigit()), 0),
    )


def _packed(lines: Iterable[str]) -> Iterable[tuple[str, str]]:
    for line in lines:
        sha, _, name = line.partition(" ")
        if _SHA.fullmatch(sha) and name.startswith("refs/"):
            yield name, sha


def _loose(lines: Iterable[str]) -> Iterable[tuple[str, str]]:
    for line in lines:
        # A name of a ref has no colon.
        name, _, value = line.partition(":")
        yield name, value.strip()


def _resolve(value: str, refs: dict[str, str]) -> str | None:
    """Follow a symbolic ref once, as git's own HEADs need."""
    if value.startswith("ref:"):
        value = refs.get(value.removeprefix("ref:").strip(), "")
    return value if _SHA.fullmatch(value) else None


def _left_heads(lines: Iterable[str]) -> Iterable[str]:
    for line in lines:
        if match := _LEFT_DETACHED.match(line.partition("\t")[2]):
            yield match[1]


def _newest(items: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(reversed(list(items))))
