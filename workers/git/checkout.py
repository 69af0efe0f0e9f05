"""The agent's checkout: every command here runs in the sandbox, as the agent's user, and holds no secret.

The agent may have put anything into its ``.git``, so what these commands answer is a claim, never a fact.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from workers.errors import JobError
from workers.git.command import DISK_FULL, DISK_FULL_SIGNS, PATH, last_line
from workers.git.policy import GitPolicy
from workers.sandbox.sandbox import Completed, Mount, Sandbox

SEED_TARGET: Final = "/run/seed.bundle"
CHECKOUT_TIMEOUT_S: Final = 600
COMMIT_TIMEOUT_S: Final = 300
BUNDLE_TIMEOUT_S: Final = 600
_SHA: Final = re.compile(r"[0-9a-f]{40}")

_ENV: Final = {
    "PATH": PATH,
    "HOME": "/home/agent",
    "LC_ALL": "C",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ALLOW_PROTOCOL": "file",
}
_IN_REPO: Final = {"GIT_DIR": "/workspace/.git", "GIT_WORK_TREE": "/workspace"}

# What an interrupted operation leaves in .git. Locks go first: whoever held them is dead by now.
_STATES: Final = ("rebase-apply/applying", "rebase-merge", "rebase-apply", "MERGE_HEAD", "CHERRY_PICK_HEAD")
_LATER_STATES: Final = ("REVERT_HEAD", "BISECT_LOG")
_PROBE: Final = """
rm -f "$GIT_DIR/index.lock" "$GIT_DIR/HEAD.lock"
for state; do if [ -e "$GIT_DIR/$state" ]; then echo "$state"; fi; done
"""


@dataclass(frozen=True)
class Leftovers:
    """What became of the uncommitted work; each warning is a code and a sentence."""

    committed: bool
    warnings: tuple[tuple[str, str], ...] = ()


def undoing(states: Iterable[str], unmerged: bool) -> list[str] | None:
    """The git command that ends what the agent left unfinished, or None.

    A rebase or bisect is undone, because the branch still has the commits from before it. A merge, pick
    or revert without open conflicts is simply committed; with conflicts it is undone too.
    """
    found = set(states)
    if "rebase-apply/applying" in found:
        return ["am", "--abort"]
    if found & {"rebase-merge", "rebase-apply"}:
        return ["rebase", "--abort"]
    for state, command in (("MERGE_HEAD", "merge"), ("CHERRY_PICK_HEAD", "cherry-pick"), ("REVERT_HEAD", "revert")):
        if state in found and unmerged:
            return [command, "--abort"]
    return ["bisect", "reset"] if "BISECT_LOG" in found else None


class Checkout:
    """The repository at ``/workspace`` in a sandbox."""

    def __init__(self, sandbox: Sandbox, branch: str, policy: GitPolicy) -> None:
        self._sandbox = sandbox
        self._branch = branch
        self._policy = policy

    async def create(self, seed: Path, base: str, url: str, *, continued: bool) -> None:
        """Clone a bundle into the empty workspace and switch to the job's branch.

        Args:
            continued: whether the bundle holds the branch already, so that work goes on on top of it.

        Raises:
            JobError: ``checkout_failed``.
        """
        identity = (f"user.name={self._policy.author_name}", f"user.email={self._policy.author_email}")
        config = [part for setting in identity for part in ("-c", setting)]
        start = f"refs/remotes/origin/{self._branch if continued else base}"
        steps = (
            ["clone", "--quiet", "--no-tags", "--template=", *config, f"--branch={base}", "--", SEED_TARGET, "."],
            ["switch", "--quiet", "--no-track", "-c", self._branch, start],
            ["remote", "set-url", "--", "origin", url],
        )
        mounts = (Mount(source=seed, target=SEED_TARGET),)
        for step in steps:
            done = await self._sandbox.run(
                ["git", *step], env=_ENV, mounts=mounts, timeout_s=CHECKOUT_TIMEOUT_S, cwd="/workspace"
            )
            if done.returncode != 0:
                raise _checkout_error(_stderr(done))

    async def commit_leftovers(self, message: str) -> Leftovers:
        """Commit what is uncommitted, with the repository's hooks off.

        Raises:
            JobError: ``repository_broken`` or ``commit_failed``.
        """
        if (await self._git(["rev-parse", "--verify", "--quiet", "HEAD^{commit}"])).returncode != 0:
            raise JobError(
                "repository_broken",
                "The agent removed or damaged the repository's .git, so its work could not be taken; "
                "nothing was pushed. Run the job again.",
            )
        warnings = [*await self._end_unfinished(), *await self._add()]
        if not await self._is_commit_due():
            return Leftovers(False, tuple(warnings))
        commit = ["commit", "--quiet", "--no-verify", "--no-gpg-sign", "--cleanup=whitespace", "--file=-"]
        done = await self._git(commit, stdin=message.encode())
        if done.returncode != 0:
            raise JobError(
                "commit_failed", f"The agent's uncommitted work could not be committed: {last_line(_stderr(done))}."
            )
        return Leftovers(True, tuple(warnings))

    async def tips(self) -> dict[str, str]:
        """What the checkout says are its HEAD and the job's branch; either may be missing."""
        found: dict[str, str] = {}
        for name in ("HEAD", f"refs/heads/{self._branch}"):
            done = await self._git(["rev-parse", "--verify", "--quiet", f"{name}^{{commit}}"])
            sha = done.stdout.decode(errors="replace").strip()
            if done.returncode == 0 and _SHA.fullmatch(sha):
                found[name] = sha
        return found

    async def bundle(self, names: Iterable[str], start: str, file: BinaryIO) -> None:
        """Write the commits of ``names`` after ``start`` as a bundle of at most the policy's size.

        Raises:
            JobError: ``history_rewritten``, ``changes_too_large`` or ``changes_invalid``.
        """
        if (await self._git(["cat-file", "-e", f"{start}^{{commit}}"])).returncode != 0:
            raise JobError(
                "history_rewritten",
                "The agent replaced the repository's history with another; nothing was pushed. Run the job again.",
            )
        limit = self._policy.max_bundle_mb * 2**20
        command = ["bundle", "create", "--quiet", "--version=2", "-", *names, f"^{start}"]
        # One byte more than allowed, so that the limit shows.
        done = await self._git(
            command, wrapper=("prlimit", f"--fsize={limit + 1}"), timeout_s=BUNDLE_TIMEOUT_S, stdout_file=file
        )
        if os.fstat(file.fileno()).st_size > limit:
            raise too_large(self._policy.max_bundle_mb)
        if done.returncode != 0:
            raise JobError("changes_invalid", f"The agent's commits could not be packed: {last_line(_stderr(done))}.")

    async def _end_unfinished(self) -> list[tuple[str, str]]:
        names = [*_STATES, *_LATER_STATES]
        probe = await self._sandbox.run(["sh", "-c", _PROBE, "sh", *names], env=_ENV | _IN_REPO)
        unmerged = (await self._git(["ls-files", "--unmerged"])).stdout != b""
        command = undoing(probe.stdout.decode(errors="replace").splitlines(), unmerged)
        if command is None:
            if not unmerged:
                return []
            return [("git_conflicts", "The agent left merge conflicts; they were committed with their markers.")]
        done = await self._git(command)
        if done.returncode != 0:
            raise JobError(
                "repository_broken",
                f"The agent left a git {command[0]} unfinished that could not be undone: {last_line(_stderr(done))}.",
            )
        return [
            (
                "git_operation_unfinished",
                f"The agent left a git {command[0]} unfinished; it was undone before the push.",
            )
        ]

    async def _add(self) -> list[tuple[str, str]]:
        done = await self._git(["add", "--all", "--ignore-errors", "--", "."])
        if done.returncode == 0:
            return []
        return [("git_add_incomplete", f"Some files could not be added to the commit: {last_line(_stderr(done))}.")]

    async def _is_commit_due(self) -> bool:
        staged = await self._git(["diff", "--cached", "--quiet", "--no-ext-diff", "--ignore-submodules=none"])
        merging = await self._git(["rev-parse", "--verify", "--quiet", "MERGE_HEAD"])
        return staged.returncode != 0 or merging.returncode == 0

    async def _git(
        self,
        args: Sequence[str],
        *,
        wrapper: Sequence[str] = (),
        stdin: bytes = b"",
        timeout_s: float = COMMIT_TIMEOUT_S,
        stdout_file: BinaryIO | None = None,
    ) -> Completed:
        # These settings spare honest agents surprises; against the others the sandbox alone counts.
        config = ("core.hooksPath=/dev/null", "core.fsmonitor=false", "core.bare=false", "gc.auto=0")
        name, email = self._policy.author_name, self._policy.author_email
        people = {
            **{f"GIT_{role}_NAME": name for role in ("AUTHOR", "COMMITTER")},
            **{f"GIT_{role}_EMAIL": email for role in ("AUTHOR", "COMMITTER")},
        }
        return await self._sandbox.run(
            [*wrapper, "git", *(part for setting in config for part in ("-c", setting)), *args],
            env=_ENV | _IN_REPO | people,
            stdin=stdin,
            timeout_s=timeout_s,
            stdout_file=stdout_file,
        )


def too_large(max_mb: int) -> JobError:
    return JobError(
        "changes_too_large",
        f"The agent's commits are larger than {max_mb} MB and were not taken; "
        "keep build results out of the repository (.gitignore), or ask the operator to raise max_bundle_mb.",
    )


def _checkout_error(stderr: str) -> JobError:
    if any(sign in stderr.lower() for sign in DISK_FULL_SIGNS):
        return JobError("disk_full", DISK_FULL, retryable=True)
    return JobError("checkout_failed", f"The repository could not be checked out: {last_line(stderr)}.")


def _stderr(done: Completed) -> str:
    return done.stderr.decode(errors="replace")
