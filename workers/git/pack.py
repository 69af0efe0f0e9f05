"""Import of commits from a pack that a hostile agent wrote.

A plain pack has no header but its own, so no text of the repository, such as a long commit message, is parsed here.
``git index-pack --strict`` checks its objects, as a server does when it receives a push.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from workers.errors import JobError
from workers.git.command import TOLERATED_ATTRIBUTES, TOLERATED_FSCK, Git, check_space
from workers.git.process import last_line

INDEX_TIMEOUT_S: Final = 600


async def import_pack(git: Git, repository: Path, pack: Path, tips: Sequence[str], max_bytes: int) -> None:
    """Import a pack's objects into a bare repository, and check that the tips and all that they need are there.

    Args:
        tips: names of commits, as the agent's side gave them.

    Raises:
        JobError: ``changes_invalid``, ``disk_full``, or an error of ``Git.run``.
    """
    with pack.open("rb", buffering=0) as file:
        strict = "--strict=" + ",".join(f"{name}=ignore" for name in await _tolerated(git, repository))
        packed = await git.run(
            ["index-pack", "--stdin", "--fix-thin", strict, f"--max-input-size={max_bytes}"],
            cwd=repository,
            timeout_s=INDEX_TIMEOUT_S,
            stdin=file.fileno(),
        )
    if packed.returncode != 0:
        check_space(packed.trace)
        raise _invalid(last_line(packed.stderr))
    complete = await git.run(
        ["rev-list", "--objects", "--quiet", *(f"{sha}^{{commit}}" for sha in tips), "--not", "--all", "--"],
        cwd=repository,
        timeout_s=INDEX_TIMEOUT_S,
    )
    if complete.returncode != 0:
        raise _invalid(last_line(complete.stderr))


async def _tolerated(git: Git, repository: Path) -> tuple[str, ...]:
    # An older git fails at a name that it does not know.
    version = re.findall(r"\d+", await git.check(["version"], cwd=repository))
    is_known = [int(number) for number in version[:3]] >= [2, 39, 1]
    return (*TOLERATED_FSCK, *TOLERATED_ATTRIBUTES) if is_known else TOLERATED_FSCK


def _invalid(detail: str) -> JobError:
    return JobError(
        "changes_invalid", f"The agent's commits are damaged, so nothing was pushed: {detail}. Run the job again."
    )
