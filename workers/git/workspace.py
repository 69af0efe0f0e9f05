"""Repository of a job, from the clone to the push.

There are two repositories. The runner's bare ``git/clean.git`` connects to the remote with the token; the agent's
checkout in the sandbox never does. The sandbox reads the fetched objects through read-only mounts, and a pack brings
the agent's commits out. They are checked before anything is pushed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from myctobot.contract.jobs import EventKind
from myctobot.contract.repositories import repository_name
from myctobot.contract.work import WorkFile, WorkManifest
from workers.errors import JobError
from workers.git.borrowed import ObjectSources
from workers.git.changes import Collected, added_repositories, diff_event, read_changes
from workers.git.checkout import Checkout
from workers.git.ci_files import changed_ci_files
from workers.git.cleanup import remove_tree
from workers.git.collection import Collector
from workers.git.command import Git
from workers.git.confinement import Confinement
from workers.git.failures import redact
from workers.git.kept_work import import_bundle, recommit, unusable, write_bundle, write_patch
from workers.git.large_changes import find_large
from workers.git.lfs import plain_contents
from workers.git.lfs_client import LfsClient
from workers.git.lfs_files import LfsFiles
from workers.git.lines import Line
from workers.git.names import listed
from workers.git.notes import Notes
from workers.git.policy import GitPolicy, RepoSpec, Resolver, check_spec, resolve_host
from workers.git.preparation import Contents, Preparation, Start
from workers.git.process import printable_line
from workers.git.pushing import Authorize, Pusher
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
# A job that failed must not occupy its slot for long.
WIP_RETRY_S: Final = 30


@dataclass(frozen=True)
class Prepared:
    """Start of the checkout; ``notes`` have untrusted text from the base branch."""

    base_branch: str
    base_sha: str
    notes: Notes


@dataclass(frozen=True)
class Pushed:
    """Branch and commit that were pushed."""

    branch: str
    sha: str


class Workspace:
    """Repository of one job. Call ``prepare``, run the agent, then ``commit_leftovers``, ``collect``, ``push``.

    ``write_work`` keeps what was collected, and for work that was kept, ``restore`` replaces all calls before ``push``.
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
        self._lfs = LfsFiles(spec, policy, self._git, self._clean, sandbox, record, self._connect_lfs)
        max_bytes = policy.max_bundle_mb * 2**20
        self._collector = Collector(self._checkout, record, self._git, self._clean, max_bytes, spec.branch, self._warn)
        self._start: Start | None = None
        self.note = self._message = ""
        self._head: str | None = None
        # Commits that are not pushed, but kept.
        self._left: tuple[str, ...] = ()
        self._is_restored = self._warned_of_missing = False

    async def prepare(self) -> Prepared:
        """Fetch the base branch, and the job's branch where it exists, and check them out in the sandbox."""
        preparation = self._preparation
        start = self._start = await self._fetch()
        contents = await preparation.check_out(self._checkout, start)
        with preparation.times.step("recording"):
            verbatim = await self._collector.begin(start.sha, start.object_format)
        if verbatim:
            await self._log(
                f"{verbatim:,} files are stored otherwise than .gitattributes asks, and git does not convert them here"
            )
        with preparation.times.step("submodules and LFS"):
            await self._complete(start, contents)
        for line in contents.notes.log:
            await self._log(line)
        await self._log(preparation.times.summary())
        return Prepared(start.base_branch, start.base_sha, contents.notes)

    async def restore(self, manifest: WorkManifest, bundle: Path) -> Collected:
        """Fetch the branches and import the kept commits of an earlier attempt, instead of running the agent.

        Raises:
            JobError: ``work_unusable``, or as ``prepare``.
        """
        fetched = await self._fetch()
        await self._preparation.keep(fetched)
        for sha in (manifest["base"], manifest["start"]):
            found = await self._git.run(["rev-parse", "--verify", "--quiet", f"{sha}^{{commit}}"], cwd=self._clean)
            if found.returncode != 0:
                raise unusable("the repository no longer has the commits that it continues")
        base, sha, head = manifest["base"], manifest["start"], manifest["head"]
        start = self._start = Start(fetched.base_branch, base, sha, fetched.object_format)
        await import_bundle(self._git, self._clean, bundle, head, self._policy.max_bundle_mb * 2**20)
        self._is_restored = True
        await self._log("The agent's work is kept from an earlier attempt, so no agent runs")
        return await self._describe(start, head)

    async def commit_leftovers(self, message: str) -> bool:
        """Commit the agent's uncommitted changes as the agent's user; return whether there were any."""
        self._message = message
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
        if await self._count_commits(start, head) == 0:
            await self._log(self.note)
            return None
        return await self._describe(start, head)

    async def _describe(self, start: Start, head: str) -> Collected:
        """Check the commits that end at ``head``, show their changes, and make them the ones to push."""
        # Keep these commits reachable. Unreachable ones are never sent.
        await self._git.check(["update-ref", "refs/myctobot/head", head], cwd=self._clean)
        await count_paths(self._git, self._clean, head, self._policy.max_files)
        commits = await self._count_commits(start, head)
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
        self._head = head
        return collected

    async def _count_commits(self, start: Start, head: str) -> int:
        return int(await self._git.check(["rev-list", "--count", head, f"^{start.base_sha}", "--"], cwd=self._clean))

    @property
    def has_work(self) -> bool:
        """Tell whether new commits were collected, also such that are not pushed."""
        is_new = self._start is not None and self._head not in (None, self._start.sha)
        return is_new or bool(self._left)

    @property
    def work_commits(self) -> tuple[str, str, str, str]:
        """Commits of the base branch, of the start and of the work, and the job's branch."""
        start = self._require_start()
        return start.base_sha, start.sha, self._head or start.sha, self._spec.branch

    async def write_work(self, directory: Path, max_mb: int) -> dict[WorkFile, Path]:
        """Write the collected commits to files in a folder; those of more than ``max_mb`` are left out."""
        base, start, head, branch = self.work_commits
        tips = {branch: head} if head != start else {}
        tips |= {f"{branch}-left-{number}": sha for number, sha in enumerate(self._left, 1)}
        bundle, patch = directory / "work.bundle", directory / "work.patch"
        files: dict[WorkFile, Path] = {}
        if await write_bundle(self._git, self._clean, bundle, tips, (base, start), max_mb):
            files[WorkFile.BUNDLE] = bundle
        if head != start and await write_patch(self._git, self._clean, patch, base, head, max_mb):
            files[WorkFile.PATCH] = patch
        return files

    async def push(self, authorize: Authorize | None = None) -> Pushed:
        """Push the commits that ``collect`` imported, never by force; see ``Pusher``.

        Args:
            authorize: called before each further try.
        """
        if self._head is None:
            raise JobError("nothing_to_push", "There are no commits to push.")
        return await self._push_to(self._spec.branch, self._head, self._policy.push_retry_s, authorize)

    async def push_wip(self, branch: str) -> Pushed:
        """Push the commits of an attempt that did not end well to a branch of their own, with the same rules."""
        if self._head is None or not self.has_work:
            raise JobError("nothing_to_push", "There are no commits to push.")
        return await self._push_to(branch, self._head, min(self._policy.push_retry_s, WIP_RETRY_S), None)

    async def _push_to(self, branch: str, head: str, retry_s: float, authorize: Authorize | None) -> Pushed:
        await self._check_ci_files(self._require_start(), head)
        await self._log(f"Pushing {branch}")
        check = partial(self._prepare_push, branch, head)
        pusher = Pusher(self._remote, branch, check, self._log, retry_s=retry_s, authorize=authorize)
        await pusher.push(head)
        await self._emit(EventKind.PUSHED, {"branch": branch, "sha": head})
        return Pushed(branch, head)

    async def close(self) -> None:
        """End the runner's git and remove its control groups; the method may be called again."""
        await self._confinement.close()
        self._preparation.close()

    def remove(self) -> None:
        """Delete the job's directory, in any state that the agent left it."""
        remove_tree(self._job_dir)

    async def _fetch(self) -> Start:
        """Fetch the base branch, and the job's branch where it exists."""
        check_spec(self._spec, self._policy)
        await self._init()
        return await self._preparation.fetch(self._remote)

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

    async def _complete(self, start: Start, contents: Contents) -> None:
        """Add the submodules that the job may fetch, and warn once of all contents that the agent does not have."""
        submodules = Submodules(self._spec, self._policy, self._git, self._clean, self._remote_of)
        if missing := await submodules.add(self._checkout, contents.modules, start.object_format, self._log):
            message = f"These submodules are not fetched, so their folders are empty: {listed_reasons(missing)}."
            await self._warn("submodules_missing", message)
        pointers, reason = await self._lfs.place(contents.pointers)
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
        try:
            taken = await self._collector.take(start.sha, start.base_sha)
        except JobError:
            # What may not be pushed can be kept.
            self._left = tuple(line.sha for line in self._collector.lines)
            if sha := self._collector.rewritten:
                # Files that may not be pushed at all must not hide why this history may not.
                with suppress(JobError):
                    head = await recommit(self._git, self._clean, sha, start.sha, self._message, self._policy.person)
                    await self._describe(start, head)
            raise
        self.note, self._left = taken.note, tuple(line.sha for line in taken.left)
        for line in taken.left[:MAX_LEFT_SHOWN]:
            await self._show_left(start, line)
        return taken.sha or start.sha

    async def _show_left(self, start: Start, line: Line) -> None:
        """Keep the changes of commits that are not pushed in the job's log."""
        known = line.start or start.sha
        changes = await read_changes(self._git, self._clean, known, line.sha)
        count = await self._git.check(["rev-list", "--count", line.sha, f"^{known}", "--"], cwd=self._clean)
        collected = Collected(
            line.sha, int(count), changes.files, changes.insertions, changes.deletions, changes.patch, changes.truncated
        )
        await self._emit(EventKind.DIFF, {**diff_event(known, collected), "left_out": line.names[0]})

    async def _prepare_push(self, branch: str, head: str) -> None:
        """Do what comes before each try of a push: the branch must be allowed, and the server has the LFS contents."""
        await self._check_default_branch(branch)
        known = (self._require_start().base_sha, self._require_start().sha)
        missing = await self._lfs.upload(head, known, has_checkout=not self._is_restored)
        if missing and self._is_restored:
            raise unusable("contents of Git LFS were not uploaded before, and only the agent's own attempt has them")
        if missing and not self._warned_of_missing:
            self._warned_of_missing = True
            text = f"These contents of Git LFS exist neither here nor on the server: {listed(missing)}."
            await self._warn("lfs_contents_missing", text)

    def _connect_lfs(self) -> LfsClient:
        return LfsClient(self._spec.url, self._remote.token, self._policy, self._resolver)

    async def _check_default_branch(self, branch: str) -> None:
        """Check the remote's default branch again, because it may have changed during the job."""
        if not self._spec.allow_default_branch:
            check_not_default(replace(self._spec, branch=branch), (await self._remote.list([branch])).default)

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
            await self._emit(EventKind.LOG, {"source": "git", "text": redact(text, self._remote.encodings)})

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
    return ("% (" in line and not line.endswith("done.")) or line.startswith("Cloning into bare repository ")
