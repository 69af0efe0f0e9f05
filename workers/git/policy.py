"""Policy of a shard: the remote repositories and the addresses that it may connect to."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from myctobot.contract.addresses import is_public_address
from myctobot.contract.repositories import branch_pair_problem, branch_problem, repo_url_problem
from workers.errors import JobError

log = logging.getLogger("runner")

RESOLVE_TIMEOUT_S: Final = 15
DEFAULT_PORTS: Final = {"https": 443, "ssh": 22}

# Function from host and port to addresses; it raises OSError.
Resolver = Callable[[str, int], Awaitable[list[str]]]


@dataclass(frozen=True)
class RepoSpec:
    """Repository of a job.

    Args:
        url: URL of the remote repository, without credentials.
        base_branch: branch on which the work starts; None for the remote's default branch.
        branch: branch to push.
        token: token, ``user:token`` or, for ssh, a private key.
        allow_ci_files: whether a push may change files that make a CI server run programs.
        allow_default_branch: whether a push may go to the remote's default branch.
        tenant: name of the tenant, which keeps its objects apart from others'; None keeps no objects.
    """

    url: str
    base_branch: str | None
    branch: str
    token: str | None = field(repr=False)
    allow_ci_files: bool = False
    allow_default_branch: bool = False
    tenant: str | None = None


@dataclass(frozen=True)
class GitPolicy:
    """Rules and limits of this shard.

    Args:
        schemes: allowed schemes of remote repositories.
        file_roots: folders below which ``file://`` repositories are allowed, as absolute paths.
        allowed_private_hosts: host names, as written in URLs, that may have private addresses.
        ca_file: certificates to trust for https instead of the system's.
        known_hosts: ssh host keys to trust instead of the system's ``/etc/ssh/ssh_known_hosts``.
        proxy_url: proxy for https, which then resolves hosts and decides which are allowed, instead of this shard.
        max_repo_mb: size of the largest file, so of the largest pack, that a fetch may write.
        max_bundle_mb: size of the largest set of new commits that an agent may make.
        max_files: number of files and folders that a commit may have.
        push_retry_s: seconds after a failed push in which it is tried again.
        lfs_program: the shard's git-lfs, or None.
        submodules: fetch the submodules on the repository's own host with the job's token.
        object_cache: folder of the objects that jobs leave for later ones; None keeps no objects.
        object_cache_mb: bound of these objects; 0 keeps no objects.
    """

    schemes: frozenset[str] = frozenset({"https", "ssh"})
    file_roots: tuple[str, ...] = ()
    allowed_private_hosts: frozenset[str] = frozenset()
    ca_file: Path | None = None
    known_hosts: Path | None = None
    proxy_url: str | None = None
    clone_timeout_s: int = 600
    max_repo_mb: int = 2048
    max_bundle_mb: int = 1024
    max_files: int = 1_000_000
    push_retry_s: int = 240
    lfs_program: Path | None = None
    submodules: bool = True
    object_cache: Path | None = None
    object_cache_mb: int = 10_240
    author_name: str = "MyCTOBot"
    author_email: str = "agent@myctobot.invalid"

    @property
    def person(self) -> tuple[str, str]:
        """Name and address of the author of commits of files."""
        return self.author_name, self.author_email


@dataclass(frozen=True)
class Remote:
    """Checked repository URL and the only addresses that may be connected; none when a proxy connects."""

    url: str
    scheme: str
    host: str
    port: int
    addresses: tuple[str, ...] = ()

    @property
    def netloc(self) -> str:
        """Host and port as in the URL, which is how git names the host when it asks for a password."""
        return urlsplit(self.url).netloc

    @property
    def curl_resolve(self) -> str:
        """Value of git's ``http.curloptResolve``."""
        spelled = ",".join(f"[{a}]" if ":" in a else a for a in self.addresses)
        return f"{self.host}:{self.port}:{spelled}"


def check_spec(spec: RepoSpec, policy: GitPolicy) -> None:
    """Check that a job's URL and branch names are allowed here.

    Raises:
        JobError: ``repo_url_invalid`` or ``branch_invalid``; the message names the field.
    """
    if problem := repo_url_problem(spec.url, policy.schemes, policy.file_roots):
        raise JobError("repo_url_invalid", f"repo_url {problem}.")
    for name, value in (("branch", spec.branch), ("base_branch", spec.base_branch)):
        if value is not None and (problem := branch_problem(value)):
            raise JobError("branch_invalid", f"{name} {problem}.")
    if spec.base_branch is not None:
        check_pair(spec.branch, spec.base_branch)


def check_pair(branch: str, base: str) -> None:
    """Check that a branch can exist together with its base branch.

    Raises:
        JobError: ``branch_invalid``.
    """
    if problem := branch_pair_problem(branch, base):
        raise JobError("branch_invalid", f"branch {problem}.")


def address_problem(host: str, addresses: Iterable[str], allowed_private_hosts: Iterable[str]) -> str | None:
    """Return why a host with these addresses is refused, or None; one private address refuses the host."""
    if host in {name.lower() for name in allowed_private_hosts}:
        return None
    if any(not is_public_address(address) for address in addresses):
        return f"The host '{host}' of repo_url has a private address; ask the operator to allow the host."
    return None


async def resolve_host(host: str, port: int) -> list[str]:
    """Return the addresses of a host from the system's resolver.

    Raises:
        OSError: the host has no address, or the resolver does not answer.
    """
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))


async def locate(url: str, policy: GitPolicy, resolver: Resolver = resolve_host) -> Remote:
    """Resolve a URL that passed ``check_spec``, and refuse private addresses.

    Raises:
        JobError: ``repo_unreachable`` (retryable) for a name without a public address, ``repo_host_refused`` for a
            private address in the URL itself.
    """
    parts = urlsplit(url)
    if parts.scheme == "file":
        return Remote(url, "file", "", 0)
    host = parts.hostname or ""
    port = parts.port or DEFAULT_PORTS[parts.scheme]
    is_address = _is_address(host)
    if is_address:
        addresses = [host]
    elif policy.proxy_url is not None:
        addresses = []
    else:
        addresses = await _resolve(host, port, resolver)
    if problem := address_problem(host, addresses, policy.allowed_private_hosts):
        log.warning("%s Its addresses: %s.", problem, ", ".join(addresses[:10]))
        raise JobError("repo_host_refused", problem) if is_address else _no_public_address(host)
    return Remote(url, parts.scheme, host, port, tuple(addresses))


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


async def _resolve(host: str, port: int, resolver: Resolver) -> list[str]:
    try:
        async with asyncio.timeout(RESOLVE_TIMEOUT_S):
            addresses = await resolver(host, port)
    except (OSError, UnicodeError) as error:
        raise _no_public_address(host) from error
    if not addresses:
        raise _no_public_address(host)
    return addresses


def _no_public_address(host: str) -> JobError:
    # One answer for a name that is unknown and one that is private, because tenants must not learn internal names.
    return JobError(
        "repo_unreachable",
        f"The host '{host}' of repo_url has no public address, or an address that is not public; check its spelling, "
        "or ask the operator to allow the host.",
        retryable=True,
    )
