"""Calls of the remote repository; only these use the job's token."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from myctobot.contract.repositories import repository_name
from workers.errors import JobError
from workers.git import causes
from workers.git.certificates import certificate_error
from workers.git.command import Git
from workers.git.credentials import encodings, git_access
from workers.git.failures import RemoteCall, push_error, transport_error
from workers.git.policy import GitPolicy, Remote, RepoSpec, Resolver, locate, resolve_host
from workers.git.process import OnLine, Result
from workers.git.remote_lines import RemoteLines

LIST_TIMEOUT_S: Final = 120
PUSH_TIMEOUT_S: Final = 600
MAX_LISTING: Final = 2**20
# Bound of each process that lists refs. The server decides how many there are, and git holds all of them.
LISTING_MEMORY_MB: Final = 512
# git allows all characters in names but the ASCII ones for control and the blank.
_SYMREF: Final = re.compile(r"ref: refs/heads/(.+)\tHEAD")
_LINE: Final = re.compile(r"([0-9a-f]{40}|[0-9a-f]{64})\t(.+)")

# Our own git serves a repository on this machine, and that repository's configuration must not control it.
_SERVE: Final = (
    "git -c core.hooksPath=/dev/null -c core.fsmonitor=false -c core.alternateRefsCommand=true"
    " -c receive.autogc=false -c receive.denyCurrentBranch=refuse"
)


@dataclass(frozen=True)
class Listing:
    """Default branch of a remote, and the commits of the requested branches that exist.

    Args:
        object_format: ``sha1`` or ``sha256``.
    """

    default: str | None
    branches: dict[str, str]
    object_format: str = "sha1"

    @property
    def is_empty(self) -> bool:
        return self.default is None and not self.branches


def parse_listing(text: str) -> Listing:
    """Parse the output of ``git ls-remote --symref``; other lines are ignored."""
    default = None
    branches: dict[str, str] = {}
    object_format = "sha1"
    # Other line separators may be part of a name.
    for line in text.split("\n"):
        if symref := _SYMREF.fullmatch(line):
            default = symref[1]
        elif match := _LINE.fullmatch(line):
            object_format = "sha1" if len(match[1]) == 40 else "sha256"
            if match[2].startswith("refs/heads/"):
                branches[match[2].removeprefix("refs/heads/")] = match[1]
    return Listing(default, branches, object_format)


def parent_names(branch: str) -> list[str]:
    """Return the names above a branch: ``a`` and ``a/b`` for ``a/b/c``."""
    parts = branch.split("/")
    return ["/".join(parts[:count]) for count in range(1, len(parts))]


def check_branch_available(branch: str, branches: Iterable[str]) -> None:
    """Check that a branch is neither below nor above one of the remote's branches, because git cannot have both.

    Raises:
        JobError: ``branch_conflict``.
    """
    above = parent_names(branch)
    for other in branches:
        if other in above or other.startswith(branch + "/"):
            raise JobError(
                "branch_conflict",
                f"The branch '{branch}' cannot be created: the repository has a branch '{other}'; choose another name.",
            )


def check_not_default(spec: RepoSpec, default: str | None) -> None:
    """Check that the job's branch is not the remote's default branch, unless the tenant allows that.

    Args:
        default: the default branch; None when the remote does not name it.

    Raises:
        JobError: ``default_branch_refused`` or ``default_branch_unknown``.
    """
    if spec.allow_default_branch:
        return
    name = repository_name(spec.url)
    remedy = f"or ask an admin of your tenant to set allow_default_branch for {name}."
    if default is None:
        raise JobError(
            "default_branch_unknown",
            "The server of repo_url does not name its default branch, which work is never pushed to; "
            f"set the repository's HEAD, {remedy}",
        )
    # A server whose file system ignores case has one branch of both spellings.
    if spec.branch.casefold() == default.casefold():
        raise JobError(
            "default_branch_refused",
            f"branch is the default branch '{default}' of repo_url, and work is not pushed there; "
            f"choose another branch, {remedy}",
        )


class RemoteRepository:
    """Remote of the job, called from the runner's own bare repository.

    Each call resolves and checks the address again, and connects only to the checked address.
    """

    def __init__(
        self, spec: RepoSpec, policy: GitPolicy, repository: Path, git: Git, resolver: Resolver = resolve_host
    ) -> None:
        self._spec = spec
        self._policy = policy
        self._repository = repository
        self._git = git
        self._resolver = resolver
        self.encodings = encodings(spec.token)

    @property
    def token(self) -> str | None:
        return self._spec.token

    def renew_token(self, token: str | None) -> bool:
        """Use another token from now on, and return whether it is another one; both stay out of all texts."""
        if token == self._spec.token:
            return False
        self._spec = dataclasses.replace(self._spec, token=token)
        self.encodings = sorted({*self.encodings, *encodings(token)}, key=len, reverse=True)
        return True

    async def list(self, branches: Sequence[str]) -> Listing:
        """List the default branch, the named branches, and those that conflict with the job's branch.

        Raises:
            JobError: ``repo_too_many_refs``, or see ``workers.git.failures``.
        """
        names = dict.fromkeys([*branches, *parent_names(self._spec.branch), f"{self._spec.branch}/*"])
        patterns = ["HEAD", *(f"refs/heads/{name}" for name in names)]
        try:
            result = await self._call(
                "ls-remote", ["--symref"], patterns, timeout_s=LIST_TIMEOUT_S, address_space_mb=LISTING_MEMORY_MB
            )
        except JobError as error:
            if error.code != "git_out_of_memory":
                raise
            raise _too_many_refs() from error
        # A listing that was cut could lack a branch, or name a wrong one.
        if result.truncated:
            raise _too_many_refs()
        if result.returncode != 0:
            raise await self._error("ls-remote", result)
        listing = parse_listing(result.text)
        # A page for people is read as a list without branches.
        if listing.is_empty and urlsplit(self._spec.url).scheme == "https" and not result.trace.spoke_git:
            raise JobError(causes.NOT_GIT.code, causes.NOT_GIT.message)
        return listing

    async def clone(self, branch: str, on_line: OnLine) -> None:
        """Make the runner's repository with one branch, its whole history and the tags of this history.

        A first fetch would take longer: git checks a cloned pack for missing objects while it reads it, and walks all
        objects again after a fetch.

        Args:
            branch: a branch that the remote has.

        Raises:
            JobError: see ``workers.git.failures``.
        """
        target = self._repository
        # The address may be a path, and git would copy its files without a check.
        options = ["--progress", "--bare", "--no-local", "--single-branch", "--reject-shallow", f"--branch={branch}"]
        await self._receive("clone", options, [target.name], on_line, folder=target.parent)

    async def fetch(self, branches: Sequence[str], on_line: OnLine) -> None:
        """Fetch branches with their whole history and its tags under their own names.

        Raises:
            JobError: see ``workers.git.failures``.
        """
        # Without an option for tags, git fetches those of the fetched history.
        await self._fetch([], [f"+refs/heads/{name}:refs/heads/{name}" for name in branches], on_line)

    async def fetch_refs(self, refspecs: Sequence[str], on_line: OnLine) -> None:
        """Fetch refs or commits of another repository, without its tags.

        Raises:
            JobError: see ``workers.git.failures``.
        """
        # What the server of this repository has of another one would be of no use.
        await self._fetch(["--no-tags", "--negotiation-tip=refs/submodules/*"], refspecs, on_line)

    async def _fetch(self, more: Sequence[str], refspecs: Sequence[str], on_line: OnLine) -> None:
        options = ["--progress", "--no-write-fetch-head", "--no-recurse-submodules", "--refmap=", *more]
        await self._receive("fetch", options, refspecs, on_line)

    async def _receive(
        self, command: str, options: Sequence[str], names: Sequence[str], on_line: OnLine, *, folder: Path | None = None
    ) -> None:
        timeout_s = self._policy.clone_timeout_s
        result = await self._call(command, options, names, timeout_s=timeout_s, on_line=on_line, folder=folder)
        if result.returncode != 0:
            raise await self._error(command, result)
        # git skips such branches and reports a success.
        if any(causes.of_format(error.format) is causes.SHALLOW for error in result.trace.errors):
            raise JobError(causes.SHALLOW.code, causes.SHALLOW.message)

    async def push(self, sha: str, branch: str, on_line: OnLine) -> None:
        """Push one commit to one branch; never by force.

        Raises:
            JobError: ``push_rejected``, ``push_denied``, or see ``workers.git.failures``.
        """
        options = ["--porcelain", "--no-verify", "--no-signed", "--no-follow-tags", "--recurse-submodules=no"]
        refspecs = [f"{sha}:refs/heads/{branch}"]
        result = await self._call("push", options, refspecs, timeout_s=PUSH_TIMEOUT_S, on_line=on_line)
        if result.returncode != 0:
            raise push_error(self._facts("push"), result, branch)

    def _facts(self, command: str) -> RemoteCall:
        return RemoteCall(command, self.encodings, bool(self._spec.token), self._git.max_file_mb)

    async def _error(self, command: str, result: Result) -> JobError:
        error = transport_error(self._facts(command), result)
        if error.code != causes.CERTIFICATE.code:
            return error
        return await certificate_error(await locate(self._spec.url, self._policy, self._resolver), self._policy, error)

    async def _call(
        self,
        command: str,
        options: Sequence[str],
        refs: Sequence[str],
        *,
        timeout_s: float,
        on_line: OnLine | None = None,
        address_space_mb: int | None = None,
        folder: Path | None = None,
    ) -> Result:
        remote = await locate(self._spec.url, self._policy, self._resolver)
        async with git_access(remote, self._spec.token, self._policy, self._repository.parent, timeout_s) as granted:
            git = dataclasses.replace(self._git, config=granted.config, env=granted.env, pass_fds=granted.pass_fds)
            naming = _UrlNaming(granted.address, remote.url)
            lines = RemoteLines(is_ssh=remote.scheme == "ssh")
            try:
                result = await git.run(
                    [command, *options, *_local_server_option(remote, command), "--", naming.address, *refs],
                    cwd=folder or self._repository,
                    timeout_s=timeout_s,
                    max_output=MAX_LISTING,
                    address_space_mb=address_space_mb,
                    on_line=lines.collect_before(naming.translate(on_line)),
                )
            except JobError as error:
                if error.code != "git_timeout":
                    raise
                raise _timeout_error(command, timeout_s) from error
        # The messages of ssh are complete only now.
        return dataclasses.replace(
            result,
            stderr=naming.in_text(result.stderr),
            remote_lines=lines.result(result.trace),
            ssh_lines=tuple(granted.ssh_lines),
        )


@dataclass(frozen=True)
class _UrlNaming:
    """Name of the remote for git, which its messages repeat, and for people.

    Args:
        replacement: path of a descriptor that git gets instead of the URL, or None.
    """

    replacement: str | None
    url: str

    @property
    def address(self) -> str:
        return self.replacement or self.url

    def in_text(self, text: str) -> str:
        """Return a message of git with the URL that the tenant knows."""
        return text.replace(self.replacement, self.url) if self.replacement else text

    def translate(self, on_line: OnLine | None) -> OnLine | None:
        if on_line is None or self.replacement is None:
            return on_line

        async def translated(line: str) -> None:
            await on_line(self.in_text(line))

        return translated


def _local_server_option(remote: Remote, command: str) -> list[str]:
    if remote.scheme != "file":
        return []
    if command == "push":
        return [f"--receive-pack={_SERVE} receive-pack"]
    # Without --strict git would also try other names, such as the repository's name with the suffix .git.
    return [f"--upload-pack={_SERVE} upload-pack --strict"]


def _too_many_refs() -> JobError:
    return JobError(
        "repo_too_many_refs",
        f"The server of repo_url lists more branches than git can hold in {LISTING_MEMORY_MB} MB, or more than "
        f"{MAX_LISTING // 2**20} MB of names for this job; delete branches that are no longer needed.",
    )


def _timeout_error(command: str, timeout_s: float) -> JobError:
    return JobError(
        "git_timeout",
        f"The server of repo_url did not finish a git {command} within {timeout_s:g} s; try again later.",
        retryable=True,
    )
