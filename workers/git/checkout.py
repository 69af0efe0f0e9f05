"""Checkout of the agent: every command here runs in the sandbox as the agent's user, and gets no secret.

The agent may have changed anything in its ``.git``, so the output of these commands is not trusted.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from workers.errors import JobError
from workers.git.command import check_space
from workers.git.policy import GitPolicy
from workers.git.process import PATH, last_line
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

# Files in .git that an interrupted operation leaves. Locks are removed first, because their owners have ended.
_STATES: Final = ("rebase-apply/applying", "rebase-merge", "rebase-apply", "MERGE_HEAD", "CHERRY_PICK_HEAD")
_LATER_STATES: Final = ("REVERT_HEAD", "BISECT_LOG")
_PROBE: Final = """
rm -f "$GIT_DIR/index.lock" "$GIT_DIR/HEAD.lock"
for state; do if [ -e "$GIT_DIR/$state" ]; then echo "$state"; fi; done
"""


@dataclass(frozen=True)
class Leftovers:
    """Result for the uncommitted work; each warning is a code and a sentence."""

    committed: bool
    warnings: tuple[tuple[str, str], ...] = ()


def undo_command(states: Iterable[str], unmerged: bool) -> list[str] | None:
    """Return the git command that undoes the agent's unfinished operation, or None.

    A rebase or bisect is undone, because the branch still has the commits from before it. A merge, cherry-pick or
    revert without conflicts is committed instead; with conflicts it is undone too.
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
    """Repository at ``/workspace`` in a sandbox."""

    def __init__(self, sandbox: Sandbox, branch: str, policy: GitPolicy) -> None:
        self._sandbox = sandbox
        self._branch = branch
        self._policy = policy

    async def create(self, seed: Path, base: str, url: str, *, continued: bool) -> None:
        """Clone a bundle into the empty workspace and switch to the job's branch.

        Args:
            continued: whether the bundle has the branch already, so that the work continues on top of it.

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
                check_space(_stderr(done))
                raise _checkout_error(_stderr(done))

    async def commit_leftovers(self, message: str) -> Leftovers:
        """Commit all uncommitted changes, without running the repository's hooks.

        Raises:
            JobError: ``repository_broken`` or ``commit_failed``.
        """
        if (await self._git(["rev-parse", "--verify", "--quiet", "HEAD^{commit}"])).returncode != 0:
            raise JobError(
                "repository_broken",
                "The agent removed or damaged the repository's .git, so its work could not be read and "
                "nothing was pushed. Run the job again.",
            )
        warnings = [*await self._undo_unfinished(), *await self._add()]
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
        """Return the commits of HEAD and of the job's branch, as the checkout reports them; either may be missing."""
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
                "The agent replaced the repository's history, so nothing was pushed. Run the job again.",
            )
        limit = self._policy.max_bundle_mb * 2**20
        command = ["bundle", "create", "--quiet", "--version=2", "-", *names, f"^{start}"]
        # Allow one byte more than the limit, so that a larger bundle can be detected.
        done = await self._git(
            command, wrapper=("prlimit", f"--fsize={limit + 1}"), timeout_s=BUNDLE_TIMEOUT_S, stdout_file=file
        )
        if os.fstat(file.fileno()).st_size > limit:
            raise changes_too_large(self._policy.max_bundle_mb)
        if done.returncode != 0:
            detail = last_line(_stderr(done))
            raise JobError(
                "changes_invalid", f"The agent's commits could not be packed, so nothing was pushed: {detail}."
            )

    async def _undo_unfinished(self) -> list[tuple[str, str]]:
        names = [*_STATES, *_LATER_STATES]
        probe = await self._sandbox.run(["sh", "-c", _PROBE, "sh", *names], env=_ENV | _IN_REPO)
        unmerged = (await self._git(["ls-files", "--unmerged"])).stdout != b""
        command = undo_command(probe.stdout.decode(errors="replace").splitlines(), unmerged)
        if command is None:
            if not unmerged:
                return []
            return [
                ("git_conflicts", "The agent left merge conflicts; they were committed with their conflict markers.")
            ]
        done = await self._git(command)
        if done.returncode != 0:
            raise JobError(
                "repository_broken",
                f"The agent left a git {command[0]} unfinished, and it could not be undone, so nothing was pushed: "
                f"{last_line(_stderr(done))}.",
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
        done = await self._sandbox.run(
            [*wrapper, "git", *(part for setting in config for part in ("-c", setting)), *args],
            env=_ENV | _IN_REPO | people,
            stdin=stdin,
            timeout_s=timeout_s,
            stdout_file=stdout_file,
        )
        if done.returncode != 0:
            # A part of the agent's work must not be pushed as if it were all of it.
            check_space(_stderr(done))
        return done


def changes_too_large(max_mb: int) -> JobError:
    return JobError(
        "changes_too_large",
        f"The agent's commits are larger than {max_mb} MB, so nothing was pushed; "
        "exclude build results by .gitignore, or ask the operator to raise max_bundle_mb.",
    )


def _checkout_error(stderr: str) -> JobError:
    return JobError("checkout_failed", f"The repository could not be checked out: {last_line(stderr)}.")


def _stderr(done: Completed) -> str:
    return done.stderr.decode(errors="replace")
