"""The calls that reach the remote repository; only these ever hold the job's token."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from workers.errors import JobError
from workers.git.command import Git, OnLine, Result
from workers.git.credentials import access, spellings
from workers.git.failures import push_error, transport_error
from workers.git.policy import GitPolicy, Remote, RepoSpec, Resolver, locate, resolve_host

LIST_TIMEOUT_S: Final = 120
PUSH_TIMEOUT_S: Final = 600
MAX_LISTING: Final = 2**20
_SYMREF: Final = re.compile(r"ref: refs/heads/(\S+)\tHEAD")
_LINE: Final = re.compile(r"([0-9a-f]{40})\t(\S+)")

# A repository on this machine is served by a git of ours, which its own configuration must not steer.
_SERVE: Final = (
    "git -c core.hooksPath=/dev/null -c core.fsmonitor=false -c core.alternateRefsCommand=true"
    " -c receive.autogc=false -c receive.denyCurrentBranch=refuse"
)


@dataclass(frozen=True)
class Listing:
    """What a remote has of the refs asked for: its default branch, and the branches' commits."""

    default: str | None
    branches: dict[str, str]


def parse_listing(text: str) -> Listing:
    """Read the output of ``git ls-remote --symref``; lines of another shape are passed over."""
    default = None
    branches: dict[str, str] = {}
    for line in text.splitlines():
        if symref := _SYMREF.fullmatch(line):
            default = symref[1]
        elif (match := _LINE.fullmatch(line)) and match[2].startswith("refs/heads/"):
            branches[match[2].removeprefix("refs/heads/")] = match[1]
    return Listing(default, branches)


def parents(branch: str) -> list[str]:
    """The names that a branch lies below: ``a`` and ``a/b`` for ``a/b/c``."""
    parts = branch.split("/")
    return ["/".join(parts[:count]) for count in range(1, len(parts))]


def check_room(branch: str, branches: Iterable[str]) -> None:
    """Refuse a branch that lies below one of the remote's, or above one: git cannot have both.

    Raises:
        JobError: ``branch_conflict``.
    """
    above = parents(branch)
    for other in branches:
        if other in above or other.startswith(branch + "/"):
            raise JobError(
                "branch_conflict",
                f"The branch '{branch}' cannot be created: the repository has a branch '{other}'; choose another name.",
            )


class RemoteRepository:
    """The job's remote, reached from the runner's own bare repository.

    The address is resolved and checked anew for each call, and the call is held to what was checked.
    """

    def __init__(
        self, spec: RepoSpec, policy: GitPolicy, repository: Path, git: Git, resolver: Resolver = resolve_host
    ) -> None:
        self._spec = spec
        self._policy = policy
        self._repository = repository
        self._git = git
        self._resolver = resolver
        self.spellings = spellings(spec.token)

    async def list(self, branches: Sequence[str]) -> Listing:
        """Ask for the default branch, those named, and those that stand in the way of the job's branch.

        Raises:
            JobError: see ``workers.git.failures``.
        """
        names = dict.fromkeys([*branches, *parents(self._spec.branch), f"{self._spec.branch}/*"])
        patterns = ["HEAD", *(f"refs/heads/{name}" for name in names)]
        result = await self._call("ls-remote", ["--symref"], patterns, timeout_s=LIST_TIMEOUT_S, max_output=MAX_LISTING)
        if result.returncode != 0:
            raise transport_error("ls-remote", result.stderr, self.spellings)
        return parse_listing(result.text)

    async def fetch(self, branches: Sequence[str], on_line: OnLine) -> None:
        """Fetch branches with their whole history under their own names.

        Raises:
            JobError: see ``workers.git.failures``.
        """
        options = ["--no-tags", "--progress", "--no-write-fetch-head", "--no-recurse-submodules", "--refmap="]
        refspecs = [f"+refs/heads/{name}:refs/heads/{name}" for name in branches]
        timeout_s = self._policy.clone_timeout_s
        result = await self._call("fetch", options, refspecs, timeout_s=timeout_s, on_line=on_line)
        if result.returncode != 0:
            raise transport_error("fetch", result.stderr, self.spellings)

    async def push(self, sha: str, branch: str, on_line: OnLine) -> None:
        """Push one commit to one branch; never by force.

        Raises:
            JobError: ``push_rejected``, ``push_denied``, or see ``workers.git.failures``.
        """
        options = ["--porcelain", "--no-verify", "--no-signed", "--no-follow-tags", "--recurse-submodules=no"]
        refspecs = [f"{sha}:refs/heads/{branch}"]
        result = await self._call("push", options, refspecs, timeout_s=PUSH_TIMEOUT_S, on_line=on_line)
        if result.returncode != 0:
            raise push_error(result.text, result.stderr, self.spellings, branch)

    async def _call(
        self,
        command: str,
        options: Sequence[str],
        refs: Sequence[str],
        *,
        timeout_s: float,
        max_output: int = MAX_LISTING,
        on_line: OnLine | None = None,
    ) -> Result:
        remote = await locate(self._spec.url, self._policy, self._resolver)
        async with access(remote, self._spec.token, self._policy, self._repository.parent, timeout_s) as granted:
            git = dataclasses.replace(self._git, config=granted.config, env=granted.env, pass_fds=granted.pass_fds)
            try:
                return await git.run(
                    [command, *options, *_served(remote, command), "--", remote.url, *refs],
                    cwd=self._repository,
                    timeout_s=timeout_s,
                    max_output=max_output,
                    on_line=on_line,
                )
            except JobError as error:
                if error.code != "git_timeout":
                    raise
                raise _too_slow(command, timeout_s) from error


def _served(remote: Remote, command: str) -> list[str]:
    if remote.scheme != "file":
        return []
    if command == "push":
        return [f"--receive-pack={_SERVE} receive-pack"]
    return [f"--upload-pack={_SERVE} upload-pack"]


def _too_slow(command: str, timeout_s: float) -> JobError:
    return JobError(
        "git_timeout",
        f"The server of repo_url did not finish a git {command} within {timeout_s:g} s; try again later.",
        retryable=True,
    )
