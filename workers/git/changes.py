"""Changes in a range of commits, read from the runner's own bare repository."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from myctobot.contract.limits import MAX_EVENT_BYTES
from workers.errors import JobError
from workers.git.command import Git

# The other fields of the event and its batch need space too.
MAX_PATCH_BYTES: Final = MAX_EVENT_BYTES - 24 * 2**10
DIFF_TIMEOUT_S: Final = 60
PLAIN_DIFF: Final = ("--no-ext-diff", "--no-textconv", "--no-color", "--find-renames", "--ignore-submodules=none")
_CUT: Final = "\n[the patch continues]\n"


@dataclass(frozen=True)
class Changes:
    """Totals of a diff and its patch; ``truncated`` when a part of it is missing."""

    files: int
    insertions: int
    deletions: int
    patch: str
    truncated: bool


@dataclass(frozen=True)
class Collected:
    """Changes of the job's branch relative to the base branch."""

    head_sha: str
    commits: int
    files: int
    insertions: int
    deletions: int
    patch: str
    truncated: bool


async def read_changes(git: Git, repository: Path, base: str, head: str) -> Changes:
    """Return totals and a bounded patch from the point where ``head`` branched off ``base``.

    A hostile file can make a diff slow or large. A diff at a bound is left out and counts as truncated.
    """
    span = f"{base}...{head}"
    try:
        stat = await git.run(["diff", *PLAIN_DIFF, "--shortstat", span, "--"], cwd=repository, timeout_s=DIFF_TIMEOUT_S)
        diff = await git.run(
            ["diff", *PLAIN_DIFF, span, "--"], cwd=repository, timeout_s=DIFF_TIMEOUT_S, max_output=MAX_PATCH_BYTES
        )
    except JobError as error:
        if error.code not in ("git_timeout", "git_out_of_memory"):
            raise
        return Changes(0, 0, 0, "", truncated=True)
    files, insertions, deletions = parse_shortstat(stat.text)
    patch, cut = fit_patch(diff.text, MAX_PATCH_BYTES)
    return Changes(files, insertions, deletions, patch, truncated=diff.truncated or cut)


async def added_repositories(git: Git, repository: Path, base: str, head: str) -> list[str]:
    """Return the paths at which the range adds or changes a reference to another repository (a submodule)."""
    span = f"{base}...{head}"
    raw = await git.run(["diff", "--raw", "-z", "--no-renames", span, "--"], cwd=repository, timeout_s=DIFF_TIMEOUT_S)
    fields = raw.text.split("\0")
    pairs = zip(fields[::2], fields[1::2], strict=False)
    return [path for meta, path in pairs if meta.split(" ")[1:2] == ["160000"]]


def parse_shortstat(text: str) -> tuple[int, int, int]:
    """Return files, insertions and deletions from the output of ``git diff --shortstat``."""

    def number(word: str) -> int:
        match = re.search(rf"(\d+) {word}", text)
        return int(match[1]) if match else 0

    return number("file"), number("insertion"), number("deletion")


def fit_patch(patch: str, limit: int) -> tuple[str, bool]:
    """Cut a patch at the end of a line to at most ``limit`` bytes as JSON; return it and whether it was cut."""
    if _json_length(patch) <= limit:
        return patch, False
    room = limit - _json_length(_CUT)
    kept = 0
    for line in patch.splitlines(keepends=True):
        room -= _json_length(line)
        if room < 0:
            break
        kept += len(line)
    return patch[:kept] + _CUT.lstrip("\n"), True


def _json_length(text: str) -> int:
    return len(json.dumps(text)) - 2


def diff_event(base: str, collected: Collected) -> dict[str, Any]:
    return {
        "base": base,
        "head": collected.head_sha,
        "files": collected.files,
        "insertions": collected.insertions,
        "deletions": collected.deletions,
        "commits": collected.commits,
        "patch": collected.patch,
        "truncated": collected.truncated,
    }
