"""Submodules of a commit: where they are, and which of them a job may fetch with its token."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from myctobot.contract.repositories import repo_url_problem
from workers.errors import JobError
from workers.git.checkout import Checkout, Submodule
from workers.git.command import Git
from workers.git.policy import GitPolicy, RepoSpec
from workers.git.remote import RemoteRepository
from workers.git.trees import count_paths

# Submodules that are fetched, and those that are named.
MAX_SUBMODULES: Final = 100
MAX_ENTRIES: Final = 1000
MAX_LISTING: Final = 2**20
_SETTING: Final = re.compile(r"submodule\.(.+)\.(path|url)", re.DOTALL)
SCP_LIKE: Final = re.compile(r"(?:[^/@:]+@)?([^/:]+):(?!//)(.+)")
_GITLINK: Final = "160000"

Log = Callable[[str], Awaitable[None]]


@dataclass(frozen=True)
class ModuleEntry:
    """Entry of ``.gitmodules``, with the commit that the tree names for its path."""

    name: str
    path: str
    url: str
    sha: str


def parse_modules(text: str) -> list[tuple[str, str, str]]:
    """Return name, path and URL of each entry from the output of ``git config -z --get-regexp``."""
    found: dict[str, dict[str, str]] = {}
    for field in text.split("\0"):
        key, _, value = field.partition("\n")
        if match := _SETTING.fullmatch(key):
            found.setdefault(match[1], {})[match[2]] = value
    return [(name, one["path"], one["url"]) for name, one in found.items() if {"path", "url"} <= one.keys()]


def resolve_url(repository: str, url: str) -> str | None:
    """Return the address of a submodule on the host of the repository, or None for one on another host.

    Another notation of the same host, such as ``git@host:path``, becomes the one that the job's token is for.
    """
    base = urlsplit(repository)
    if url.startswith(("./", "../")):
        path = base.path.rstrip("/")
        while url.startswith(("./", "../")):
            if url.startswith("../"):
                path = path.rpartition("/")[0]
            url = url.partition("/")[2]
        return f"{base.scheme}://{base.netloc}{path}/{url}"
    if "://" not in url:
        match = SCP_LIKE.fullmatch(url)
        host, path = (match[1], match[2]) if match else ("", "")
    else:
        try:
            parts = urlsplit(url)
            host, path = parts.hostname or "", parts.path
            is_same = parts.scheme == base.scheme and parts.port == base.port
            # Another port can be another server.
            if parts.port is not None and not is_same:
                return None
        except ValueError:
            return None
        if parts.scheme == "file" and base.scheme != "file":
            return None
    if host.lower() != (base.hostname or "") or not path.strip("/"):
        return None
    return f"{base.scheme}://{base.netloc}/{path.lstrip('/')}"


async def read_entries(git: Git, repository: Path, commit: str) -> list[ModuleEntry]:
    """Return the entries of a commit's ``.gitmodules`` that have a commit in its tree."""
    listing = ["config", "-z", f"--blob={commit}:.gitmodules", "--get-regexp", r"^submodule\..*\.(path|url)$"]
    found = await git.run(listing, cwd=repository, max_output=MAX_LISTING)
    modules = parse_modules(found.text)[:MAX_ENTRIES] if found.returncode == 0 else []
    if not modules:
        return []
    tree = await git.run(
        ["--literal-pathspecs", "ls-tree", "-z", commit, "--", *(path for _, path, _ in modules)],
        cwd=repository,
        max_output=MAX_LISTING,
    )
    commits = {}
    for line in tree.text.split("\0"):
        head, _, path = line.partition("\t")
        words = head.split(" ")
        if len(words) == 3 and words[0] == _GITLINK:
            commits[path] = words[2]
    return [ModuleEntry(name, path, url, commits[path]) for name, path, url in modules if path in commits]


class Submodules:
    """Submodules of one job.

    Args:
        clean: the runner's bare repository, which gets their objects.
        remote: makes the remote of a repository.
    """

    def __init__(
        self, spec: RepoSpec, policy: GitPolicy, git: Git, clean: Path, remote: Callable[[RepoSpec], RemoteRepository]
    ) -> None:
        self._spec, self._policy, self._git, self._clean, self._remote = spec, policy, git, clean, remote

    async def add(self, checkout: Checkout, entries: Sequence[ModuleEntry], object_format: str, log: Log) -> list[str]:
        """Fetch submodules and check them out; return the others, each with the reason."""
        fetched: list[Submodule] = []
        missing: list[str] = []
        for number, entry in enumerate(entries[:MAX_SUBMODULES]):
            url = resolve_url(self._spec.url, entry.url)
            if reason := self._refusal(url):
                missing.append(f"{entry.path} ({reason})")
                continue
            assert url is not None  # noqa: S101 - for the type checker; _refusal has a reason for None
            await log(f"Fetching the submodule {entry.path} from {url}")
            try:
                await self._fetch(url, entry.sha, f"refs/submodules/{number}", log)
            except JobError as error:
                missing.append(f"{entry.path} ({error.code})")
                continue
            fetched.append(Submodule(f"{number}", entry.path, entry.sha, url))
            inner = await read_entries(self._git, self._clean, entry.sha)
            missing += [f"{entry.path}/{one.path} (it is inside another submodule)" for one in inner]
        if fetched:
            await checkout.add_submodules(fetched, object_format)
        return missing + [f"{one.path} (beyond the first {MAX_SUBMODULES})" for one in entries[MAX_SUBMODULES:]]

    def _refusal(self, url: str | None) -> str | None:
        if not self._policy.submodules:
            return "this shard fetches no submodules"
        if url is None:
            return "it is on another host, for which the job has no token"
        if repo_url_problem(url, self._policy.schemes, self._policy.file_roots):
            return "its address is not allowed here"
        return None

    async def _fetch(self, url: str, sha: str, ref: str, log: Log) -> None:
        remote = self._remote(dataclasses.replace(self._spec, url=url))
        try:
            await remote.fetch_refs([f"+{sha}:{ref}/commit"], log)
        except JobError as error:
            if error.retryable and error.code != "git_failed":
                raise
            # An old server gives only commits that a branch or tag names.
            await remote.fetch_refs([f"+refs/heads/*:{ref}/heads/*"], log)
        await self._git.check(["rev-parse", "--verify", "--quiet", f"{sha}^{{commit}}"], cwd=self._clean)
        await count_paths(self._git, self._clean, sha, self._policy.max_files)


def listed_reasons(missing: Sequence[str], shown: int = 10) -> str:
    """Return the submodules that are not there, as one text."""
    more = f" and {len(missing) - shown} more" if len(missing) > shown else ""
    return ", ".join(one[:300] for one in missing[:shown]) + more
