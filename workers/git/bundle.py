"""Import of commits from a bundle that a hostile agent wrote.

Before git 2.46, ``git fetch`` from a bundle does not check objects. Therefore this module parses the header
(gitformat-bundle(5)) and gives the pack to ``git index-pack --strict``, as a server does when it receives a push.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from workers.errors import JobError
from workers.git.command import TOLERATED_FSCK, Git, check_space
from workers.git.process import last_line

MAX_HEADER: Final = 64 * 2**10
MAX_REFS: Final = 8
INDEX_TIMEOUT_S: Final = 600
_SIGNATURE: Final = b"# v2 git bundle\n"
_REF: Final = re.compile(r"([0-9a-f]{40}) (HEAD|refs/heads/[^\s]{1,400})")
_PREREQUISITE: Final = re.compile(r"-[0-9a-f]{40}( .*)?")


@dataclass(frozen=True)
class Header:
    """Refs of a bundle, and the offset of its pack."""

    refs: dict[str, str]
    length: int


def parse_header(data: bytes) -> Header:
    """Parse the header of a bundle from its first bytes.

    Raises:
        ValueError: this is not a bundle of version 2 with a few plain refs.
    """
    end = data.find(b"\n\n")
    if not data.startswith(_SIGNATURE) or end < 0:
        raise ValueError("no bundle header")
    refs: dict[str, str] = {}
    for line in data[len(_SIGNATURE) : end].decode(errors="replace").split("\n"):
        if match := _REF.fullmatch(line):
            refs[match[2]] = match[1]
        elif not _PREREQUISITE.fullmatch(line):
            raise ValueError("an unknown line in the bundle header")
    if not 0 < len(refs) <= MAX_REFS:
        raise ValueError("no refs, or too many")
    return Header(refs, end + 2)


async def import_bundle(git: Git, repository: Path, bundle: Path, max_bytes: int) -> dict[str, str]:
    """Import a bundle's objects into a bare repository and return its refs, after checking that no object is missing.

    Raises:
        JobError: ``changes_invalid``, ``disk_full``, or an error of ``Git.run``.
    """
    with bundle.open("rb", buffering=0) as file:
        try:
            header = parse_header(file.read(MAX_HEADER))
        except ValueError as error:
            raise _invalid(str(error)) from error
        os.lseek(file.fileno(), header.length, os.SEEK_SET)
        strict = "--strict=" + ",".join(f"{name}=ignore" for name in TOLERATED_FSCK)
        packed = await git.run(
            ["index-pack", "--stdin", "--fix-thin", strict, f"--max-input-size={max_bytes}"],
            cwd=repository,
            timeout_s=INDEX_TIMEOUT_S,
            stdin=file.fileno(),
        )
    if packed.returncode != 0:
        check_space(packed.stderr)
        raise _invalid(last_line(packed.stderr))
    tips = sorted(set(header.refs.values()))
    complete = await git.run(
        ["rev-list", "--objects", "--quiet", *tips, "--not", "--all", "--"], cwd=repository, timeout_s=INDEX_TIMEOUT_S
    )
    if complete.returncode != 0:
        raise _invalid(last_line(complete.stderr))
    return header.refs


def _invalid(detail: str) -> JobError:
    return JobError(
        "changes_invalid", f"The agent's commits are damaged, so nothing was pushed: {detail}. Run the job again."
    )
