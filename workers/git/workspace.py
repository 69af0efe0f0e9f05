"""Repository of a job, from the clone to the push.

There are two repositories. The runner's bare ``git/clean.git`` connects to the remote with the token; the agent's
checkout in the sandbox never does. The sandbox reads the fetched objects through read-only mounts, and a pack brings
the agent's commits out. They are checked before anything is pushed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from myctobot.contract.jobs import EventKind
from myctobot.contract.repositories import repository_name
from workers.errors import JobError
from workers.git.borrowed import ObjectSources
from workers.git.changes import added_repositories, read_changes
from workers.git.checkout import Checkout
from workers.git.ci_files import changed_ci_files
from workers.git.cleanup import remove_tree
from workers.git.collection import Collector, listed
from workers.git.command import Git
from workers.git.confinement import Confinement
from workers.git.failures import redact
from workers.git.large_changes import find_large
from workers.git.lfs import plain_contents
from workers.git.lfs_files import LfsFiles
from workers.git.lines import Line
from workers.git.notes import Notes, read_notes
from workers.git.policy import GitPolicy, RepoSpec, Resolver, check_spec, resolve_host
from workers.git.preparation import Preparation, Start
from workers.git.process import printable_line
from workers.git.record import CheckoutRecord
from workers.git.remote import RemoteRepository, check_not_default
from workers.git.submodules import Submodules, listed_reasons
from workers.git.trees import count_paths
from workers.sandbox.sandbox import Sandbox

__all__ = ["Collected", "GitPolicy", "Prepared", "Pushed", "RepoSpec", "Workspace"]

Emit = Callable[[EventKind, dict[str, Any]], Awaitable[None]]

# First version that can bind a connection to a checked address (http.curloptResolve).
MIN_GIT: Final = (2, 37)
MAX_NAMED_PATHS: Final = 10
MAX_LEFT_SHOWN: Final = 5
MAX_NAMED_BYTES: Final = 200


@dataclass(frozen=True)
class Prepared:
    """Start of the checkout; ``notes`` have untrusted text from the base branch."""

    base_branch: str
    base_sha: str
    notes: Notes


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


@dataclass(frozen=True)
class Pushed:
    """Branch and commit that were pushed."""

    branch: str
    sha: str


class Workspace:
    """Repository of one job. Call ``prepare``, run the agent, then ``commit_leftovers``, ``collect``, ``push``.

    The agent's processes must have ended before ``commit_leftovers``. Every method except ``close`` and ``remove``
    raises ``JobError`` with a code and a sentence for the user. The caller must call ``close``.
    """

    def __init__(
        self,
        spec: RepoSpec,
        sandbox: Sandbox,
        job_dir: Path,
        policy: GitPolicy,
        emit: Emit,
        resolver: Resolver = resolve_host,
    ) -> None:
        self._spec = spec
        self._job_dir = job_dir
        self._policy = policy
        self._emit = emit
        self._dir = job_dir / "git"
        self._clean = self._dir / "clean.git"
        self._confinement = Confinement.create(sandbox.config.limits)
        self._git = Git(home=self._dir / "home", max_file_mb=policy.max_repo_mb, confinement=self._confinement)
        self._resolver = resolver
        self._remote = self._remote_of(spec)
        sources = ObjectSources()
        self._preparation = Preparation(spec, policy, self._git, self._clean, sandbox, sources, self._log)
        self._checkout = Checkout(sandbox, spec.branch, policy, sources)
        record = CheckoutRecord(sandbox, self._dir / "record", sources, policy)
        self._lfs = LfsFiles(spec, policy, self._git, self._clean, sandbox, record, resolver)
        max_bytes = policy.max_bundle_mb * 2**20
        self._collector = Collector(self._checkout, record, self._git, self._clean, max_bytes, spec.branch, self._warn)
        self._start: Start | None = None
        self.note = ""
        self._head: str | None = None

    async def prepare(self) -> Prepared:
        """Fetch the base branch, and the job's branch where it exists, and check them out in the sandbox."""
        check_spec(self._spec, self._policy)
        await self._init()
        preparation = self._preparation
        start = self._start = await preparation.fetch(self._remote)
        await preparation.check_out(self._checkout, start)
        with preparation.times.step("recording"):
            verbatim = await self._collector.begin(start.sha, start.object_format)
        if verbatim:
            await self._log(
                f"{verbatim:,} files are stored otherwise than .gitattributes asks, and git does not convert them here"
            )
        with preparation.times.step("submodules and LFS"):
            await self._complete(start)
        notes = await read_notes(self._git, self._clean, start.base_sha)
        for line in notes.log:
            await self._log(line)
        await self._log(preparation.times.summary())
        return Prepared(start.base_branch, start.base_sha, notes)

    async def commit_leftovers(self, message: str) -> bool:
        """Commit the agent's uncommitted changes as the agent's user; return whether there were any."""
        committed = await self._collector.commit_files(message)
        if committed:
            await self._log("Committed the agent's uncommitted changes")
        return committed

    async def collect(self) -> Collected | None:
        """Import the agent's commits into the runner's repository and check them; None when there is nothing to push.

        Earlier commits of a branch that existed already count too, because a pull request shows them.
        """
        start = self._require_start()
        head = await self._take_commits(start)
        await count_paths(self._git, self._clean, head, self._policy.max_files)
        commits = int(await self._git.check(["rev-list", "--count", head, f"^{start.base_sha}", "--"], cwd=self._clean))
        if commits == 0:
            await self._log(self.note)
            return None
        if head == start.sha:
            await self._log(f"The agent added no commit to the {commits} commits that {self._spec.branch} had already")
        changes = await read_changes(self._git, self._clean, start.base_sha, head)
        await self._warn_of_repositories(start, head)
        await self._warn_of_contents(start, head)
        collected = Collected(
            head, commits, changes.files, changes.insertions, changes.deletions, changes.patch, changes.truncated
        )
        # A person can read in the log what was not pushed.
        await self._emit(EventKind.DIFF, diff_event(start.base_sha, collected))
        await self._check_ci_files(start, head)
        self._head = head
        return collected

    async def push(self) -> Pushed:
        """Push the commits that ``collect`` imported, never by force."""
        if self._head is None:
            raise JobError("nothing_to_push", "There are no commits to push.")
        if not self._spec.allow_default_branch:
            # The default branch may have changed during the job.
            check_not_default(self._spec, (await self._remote.list([self._spec.branch])).default)
        await self._log(f"Pushing {self._spec.branch}")
        known = (self._require_start().base_sha, self._require_start().sha)
        if missing := await self._lfs.upload(self._head, known):
            text = f"These contents of Git LFS exist neither here nor on the server: {listed(missing)}."
            await self._warn("lfs_contents_missing", text)
        await self._remote.push(self._head, self._spec.branch, self._log)
        await self._emit(EventKind.PUSHED, {"branch": self._spec.branch, "sha": self._head})
        return Pushed(self._spec.branch, self._head)

    async def close(self) -> None:
        """End the runner's git and remove its control groups; the method may be called again."""
        await self._confinement.close()
        self._preparation.close()

    def remove(self) -> None:
        """Delete the job's directory, in any state that the agent left it."""
        remove_tree(self._job_dir)

    async def _init(self) -> None:
        try:
            self._git.home.mkdir(parents=True, mode=0o700)
            self._dir.chmod(0o700)
        except OSError as error:
            raise JobError(
                "workspace_unusable",
                f"The shard cannot write its workspace: {error.strerror}; ask the operator to check it.",
                retryable=True,
            ) from error
        found = parse_version(await self._git.check(["version"], cwd=self._dir))
        if found < MIN_GIT:
            raise JobError("git_too_old", "This shard's git is older than 2.37; ask the operator to update it.")

    async def _complete(self, start: Start) -> None:
        """Add the submodules that the job may fetch, and warn once of all contents that the agent does not have."""
        submodules = Submodules(self._spec, self._policy, self._git, self._clean, self._remote_of)
        if missing := await submodules.add(self._checkout, start.sha, start.object_format, self._log):
            message = f"These submodules are not fetched, so their folders are empty: {listed_reasons(missing)}."
            await self._warn("submodules_missing", message)
        pointers, reason = await self._lfs.place(start.sha)
        if reason:
            await self._warn(
                "lfs_missing",
                f"{pointers:,} files are pointers of Git LFS, and the agent sees the pointers, because {reason}. "
                "What it writes into such files is committed as plain contents.",
            )
        elif pointers:
            await self._log(f"Fetched the contents of {pointers:,} files of Git LFS")

    def _remote_of(self, spec: RepoSpec) -> RemoteRepository:
        return RemoteRepository(spec, self._policy, self._clean, self._git, self._resolver)

    async def _take_commits(self, start: Start) -> str:
        """Import the agent's commits into the bare repository, and return the one to push."""
        taken = await self._collector.take(start.sha, start.base_sha)
        self.note = taken.note
        for line in taken.left[:MAX_LEFT_SHOWN]:
            await self._show_left(start, line)
        head = taken.sha or start.sha
        # Keep these commits reachable. Unreachable ones are never sent.
        await self._git.check(["update-ref", "refs/myctobot/head", head], cwd=self._clean)
        return head

    async def _show_left(self, start: Start, line: Line) -> None:
        """Keep the changes of commits that are not pushed in the job's log."""
        changes = await read_changes(self._git, self._clean, start.sha, line.sha)
        count = await self._git.check(["rev-list", "--count", line.sha, f"^{start.sha}", "--"], cwd=self._clean)
        collected = Collected(
            line.sha, int(count), changes.files, changes.insertions, changes.deletions, changes.patch, changes.truncated
        )
        await self._emit(EventKind.DIFF, {**diff_event(start.sha, collected), "left_out": line.names[0]})

    async def _check_ci_files(self, start: Start, head: str) -> None:
        if self._spec.allow_ci_files:
            return
        known = (start.base_sha, start.sha)
        if paths := await changed_ci_files(self._git, self._clean, head, known, self._policy.max_files):
            named = ", ".join(printable_line(path)[:MAX_NAMED_BYTES] for path in paths[:MAX_NAMED_PATHS])
            others = f" and {len(paths) - MAX_NAMED_PATHS} more" if len(paths) > MAX_NAMED_PATHS else ""
            raise JobError(
                "ci_files_refused",
                f"The commits change CI files, so nothing was pushed: {named}{others}. Ask for work without them, "
                f"or ask an admin of your tenant to set allow_ci_files for {repository_name(self._spec.url)}.",
            )

    async def _warn_of_repositories(self, start: Start, head: str) -> None:
        paths = await added_repositories(self._git, self._clean, start.sha, head)
        if paths:
            named = ", ".join(paths[:MAX_NAMED_PATHS])
            await self._warn(
                "embedded_repository",
                f"The commits refer to other git repositories, whose contents are not part of the push: {named}.",
            )

    async def _warn_of_contents(self, start: Start, head: str) -> None:
        if paths := await plain_contents(self._git, self._clean, start.sha, head, self._policy.max_files):
            await self._warn(
                "lfs_plain_contents",
                f"The attributes of these files ask for Git LFS, and the commits have their contents: {listed(paths)}.",
            )
        if large := await find_large(self._git, self._clean, start.sha, head):
            await self._warn("large_changes", f"The commits have large files, or folders of many: {listed(large)}.")

    def _require_start(self) -> Start:
        if self._start is None:
            raise AssertionError("prepare() comes first")
        return self._start

    async def _log(self, text: str) -> None:
        if not is_progress(text):
            clean = redact(text, self._remote.encodings)
            await self._emit(EventKind.LOG, {"source": "git", "text": clean})

    async def _warn(self, code: str, message: str) -> None:
        await self._emit(EventKind.WARNING, {"code": code, "message": redact(message, self._remote.encodings)})


def parse_version(text: str) -> tuple[int, int]:
    """Return major and minor version from ``git version 2.39.5``, or (0, 0) for any other text."""
    words = text.split()
    numbers = words[2].split(".") if len(words) > 2 else []
    if len(numbers) < 2 or not (numbers[0].isdigit() and numbers[1].isdigit()):
        return 0, 0
    return int(numbers[0]), int(numbers[1])


def is_progress(line: str) -> bool:
    """Tell whether a line only shows git's progress, such as ``Receiving objects:  42% (21/50)``."""
    return "% (" in line and not line.endswith("done.")


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
