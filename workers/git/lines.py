"""Choice among the lines of new commits that an agent left; pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Line:
    """New commits that end at ``sha``, with the names that lead there.

    Args:
        start: commit before the changes, or None for the start of the job.
    """

    sha: str
    names: tuple[str, ...]
    start: str | None = None


@dataclass(frozen=True)
class ChosenLine:
    """Commit to push, or None for no new commit, and the lines that it does not contain."""

    sha: str | None
    left: tuple[Line, ...]


def find_lines(tips: Mapping[str, Sequence[str]], parents: Mapping[str, Sequence[str]]) -> list[Line]:
    """Return the tips that no other tip contains, with the names of all that they contain.

    Args:
        tips: names of each tip.
        parents: parents of every new commit; a tip that is not among them is not new.
    """
    new = [tip for tip in tips if tip in parents]
    # One walk for all tips: a walk for each would need memory for tips times commits.
    inner = ancestors((parent for tip in new for parent in parents[tip]), parents)
    return [Line(tip, tuple(tips[tip])) for tip in new if tip not in inner]


def choose(
    lines: Sequence[Line], parents: Mapping[str, Sequence[str]], head: str, branch: str, usable: Iterable[str]
) -> ChosenLine:
    """Choose what is pushed: the checked-out line, else the line of the job's branch, else the only other line.

    Args:
        head: commit of the agent's files.
        branch: commit of the job's branch.
        usable: tips that continue the start of the job.
    """
    chosen: str | None = None
    if head in parents:
        chosen = branch if head in ancestors([branch], parents) else head
    elif branch in parents:
        chosen = branch
    elif len(lines) == 1 and lines[0].sha in usable:
        chosen = lines[0].sha
    contained = ancestors([chosen] if chosen else [], parents)
    return ChosenLine(chosen, tuple(line for line in lines if line.sha not in contained))


def ancestors(commits: Iterable[str], parents: Mapping[str, Sequence[str]]) -> frozenset[str]:
    """Return those of the commits that are new, and all new commits before them."""
    found: set[str] = set()
    pending = list(commits)
    while pending:
        commit = pending.pop()
        if commit in parents and commit not in found:
            found.add(commit)
            pending.extend(parents[commit])
    return frozenset(found)
