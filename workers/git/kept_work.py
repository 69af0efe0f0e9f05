"""Files of an agent's work: a bundle of its commits, from which a later attempt pushes, and a patch for people."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, Final

from workers.errors import JobError
from workers.git.changes import PLAIN_DIFF
from workers.git.command import Git, check_space
from workers.git.pack import import_pack
from workers.git.process import last_line
from workers.git.trace import Limit

WRITE_TIMEOUT_S: Final = 300
# The header names the commits that the bundle needs, each with its subject, which may be a long paragraph.
MAX_HEADER_BYTES: Final = 16 * 2**20
_SIGNATURE: Final = b"# v2 git bundle\n"
_NOTHING_NEW: Final = "Refusing to create empty bundle"
_SIZE_SIGNALS: Final = (-25, 153)
_REF_PREFIX: Final = "refs/heads/"


async def write_bundle(
    git: Git, repository: Path, path: Path, tips: Mapping[str, str], known: Sequence[str], max_mb: int
) -> bool:
    """Write commits as a bundle; return false if it would be larger than ``max_mb`` or has no new commit.

    Args:
        tips: commits by the branches that name them in the bundle; these branches of the repository are set.
        known: commits that everyone has who uses the bundle.

    Raises:
        JobError: ``disk_full``, or an error of ``Git.run``.
    """
    for branch, sha in tips.items():
        await git.check(["update-ref", f"{_REF_PREFIX}{branch}", sha], cwd=repository)
    refs = [f"{_REF_PREFIX}{branch}" for branch in tips]
    argv = ["bundle", "create", "--quiet", "--version=2", str(path), *refs, *(f"^{sha}" for sha in known)]
    return await _write(git, repository, argv, path, max_mb)


async def write_patch(git: Git, repository: Path, path: Path, base: str, head: str, max_mb: int) -> bool:
    """Write the changes since ``base`` as a patch that git apply reads; return false if it is larger than ``max_mb``.

    Raises:
        JobError: ``disk_full``, or an error of ``Git.run``.
    """
    argv = ["diff", *PLAIN_DIFF, "--binary", f"--output={path}", f"{base}...{head}", "--"]
    return await _write(git, repository, argv, path, max_mb)


async def recommit(git: Git, repository: Path, commit: str, parent: str, message: str, person: tuple[str, str]) -> str:
    """Commit the files of a commit again on top of another one, and return the new commit.

    Args:
        person: name and address of the author.

    Raises:
        JobError: ``nothing_to_push`` if the files are the same, or an error of ``Git.run``.
    """
    trees = await git.check(["rev-parse", f"{commit}^{{tree}}", f"{parent}^{{tree}}"], cwd=repository)
    tree, known = trees.split()
    if tree == known:
        raise JobError("nothing_to_push", "The files are as before.")
    name, email = person
    settings = ["-c", f"user.name={name}", "-c", f"user.email={email}"]
    argv = [*settings, "commit-tree", tree, "-p", parent, "-m", message]
    return (await git.check(argv, cwd=repository)).strip()


async def import_bundle(git: Git, repository: Path, path: Path, head: str, max_bytes: int) -> None:
    """Import the commits of a bundle that ``write_bundle`` wrote, and check them like those of an agent.

    Raises:
        JobError: ``work_unusable`` if it is no bundle, or the repository lacks commits that it needs.
    """
    pack = path.with_suffix(".pack")
    try:
        with path.open("rb") as bundle, pack.open("xb") as file:
            _copy_pack(bundle, file)
        await import_pack(git, repository, pack, [head], max_bytes)
    except JobError as error:
        if error.code != "changes_invalid":
            raise
        raise unusable("it is damaged, or the repository no longer has the commits that it continues") from error
    finally:
        pack.unlink(missing_ok=True)


def unusable(reason: str) -> JobError:
    return JobError(
        "work_unusable",
        f"The work that is kept with the job cannot be pushed: {reason}. Download it, or retry the job.",
    )


async def _write(git: Git, repository: Path, argv: Sequence[str], path: Path, max_mb: int) -> bool:
    bounded = dataclasses.replace(git, max_file_mb=max_mb)
    try:
        done = await bounded.run(argv, cwd=repository, timeout_s=WRITE_TIMEOUT_S)
    except JobError as error:
        path.unlink(missing_ok=True)
        if error.code in ("git_timeout", "git_out_of_memory"):
            return False
        raise
    # Git does not always notice that a file could not grow any more.
    if done.returncode == 0 and path.exists() and path.stat().st_size < max_mb * 2**20:
        return True
    path.unlink(missing_ok=True)
    check_space(done.trace)
    reached = done.trace.limit is Limit.FILE_SIZE or done.returncode in _SIZE_SIGNALS
    if done.returncode != 0 and not reached and done.trace.first(_NOTHING_NEW) is None:
        raise JobError(
            "git_failed", f"The agent's work could not be written: {last_line(done.stderr)}.", retryable=True
        )
    return False


def _copy_pack(bundle: BinaryIO, file: BinaryIO) -> None:
    """Copy the pack that follows the header of a bundle."""
    if bundle.readline(len(_SIGNATURE)) != _SIGNATURE:
        raise unusable("it is no bundle")
    left = MAX_HEADER_BYTES
    while (line := bundle.readline(left)) != b"\n":
        left -= len(line)
        if not line or left <= 0:
            raise unusable("its header has no end")
    while piece := bundle.read(2**20):
        file.write(piece)
