"""Which remote repositories a shard talks to, and at which addresses."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from myctobot.contract.jobs import branch_pair_problem, branch_problem, is_public_address, repo_url_problem
from workers.errors import JobError

RESOLVE_TIMEOUT_S: Final = 15
DEFAULT_PORTS: Final = {"https": 443, "ssh": 22}

# Takes a host and a port, gives the addresses; raises OSError.
Resolver = Callable[[str, int], Awaitable[list[str]]]


@dataclass(frozen=True)
class RepoSpec:
    """What a job says about its repository.

    Args:
        url: of the remote repository, without credentials.
        base_branch: where the work starts; None for the remote's own default branch.
        branch: where the work goes.
        token: a token, ``user:token`` or, for ssh, a private key.
    """

    url: str
    base_branch: str | None
    branch: str
    token: str | None = field(repr=False)


@dataclass(frozen=True)
class GitPolicy:
    """What this shard allows and how far it goes.

    Args:
        allowed_private_hosts: host names, as written in URLs, that may have private addresses.
        ca_file: certificates to trust for https instead of the system's.
        known_hosts: ssh host keys to trust instead of the system's ``/etc/ssh/ssh_known_hosts``.
        proxy_url: what https goes through; then it, not this shard, looks hosts up and says which are allowed.
        max_repo_mb: the largest file, so the largest pack, that a fetch may write.
        max_bundle_mb: the largest set of new commits taken from an agent.
    """

    schemes: frozenset[str] = frozenset({"https", "ssh"})
    allowed_private_hosts: frozenset[str] = frozenset()
    ca_file: Path | None = None
    known_hosts: Path | None = None
    proxy_url: str | None = None
    clone_timeout_s: int = 600
    max_repo_mb: int = 8192
    max_bundle_mb: int = 1024
    author_name: str = "MyCTOBot"
    author_email: str = "agent@myctobot.invalid"


@dataclass(frozen=True)
class Remote:
    """A checked repository URL, with the addresses that its connections are held to; none where a proxy connects."""

    url: str
    scheme: str
    host: str
    port: int
    addresses: tuple[str, ...] = ()

    @property
    def netloc(self) -> str:
        """Host and port as the URL spells them, which is how git names the host when it asks for a password."""
        return urlsplit(self.url).netloc

    @property
    def curl_resolve(self) -> str:
        """The value of git's ``http.curloptResolve``."""
        spelled = ",".join(f"[{a}]" if ":" in a else a for a in self.addresses)
        return f"{self.host}:{self.port}:{spelled}"


def check_spec(spec: RepoSpec, policy: GitPolicy) -> None:
    """Refuse a job whose URL or branch names are not allowed here.

    Raises:
        JobError: ``repo_url_invalid`` or ``branch_invalid``; the message names the field.
    """
    if problem := repo_url_problem(spec.url, policy.schemes):
        raise JobError("repo_url_invalid", f"repo_url {problem}.")
    for name, value in (("branch", spec.branch), ("base_branch", spec.base_branch)):
        if value is not None and (problem := branch_problem(value)):
            raise JobError("branch_invalid", f"{name} {problem}.")
    if spec.base_branch is not None:
        check_pair(spec.branch, spec.base_branch)


def check_pair(branch: str, base: str) -> None:
    """Refuse a branch that cannot stand beside its base.

    Raises:
        JobError: ``branch_invalid``.
    """
    if problem := branch_pair_problem(branch, base):
        raise JobError("branch_invalid", f"branch {problem}.")


def address_problem(host: str, addresses: Iterable[str], allowed_private_hosts: Iterable[str]) -> str | None:
    """Say why a host with these addresses may not be called, or None. One private address refuses all of them."""
    if host in {name.lower() for name in allowed_private_hosts}:
        return None
    if any(not is_public_address(address) for address in addresses):
        return f"repo_url names the host '{host}', whose address is not public; ask the operator to allow the host."
    return None


async def resolve_host(host: str, port: int) -> list[str]:
    """The addresses of a host, from the system's resolver.

    Raises:
        OSError: it has none, or the resolver does not answer.
    """
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))


async def locate(url: str, policy: GitPolicy, resolver: Resolver = resolve_host) -> Remote:
    """Resolve a URL that ``check_spec`` has passed, and refuse private addresses.

    Raises:
        JobError: ``repo_unreachable`` (retryable) or ``repo_host_refused``.
    """
    parts = urlsplit(url)
    if parts.scheme == "file":
        return Remote(url, "file", "", 0)
    host = parts.hostname or ""
    port = parts.port or DEFAULT_PORTS[parts.scheme]
    if _is_address(host):
        addresses = [host]
    elif policy.proxy_url is not None:
        addresses = []
    else:
        addresses = await _resolve(host, port, resolver)
    if problem := address_problem(host, addresses, policy.allowed_private_hosts):
        raise JobError("repo_host_refused", problem)
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
        raise _unresolved(host) from error
    if not addresses:
        raise _unresolved(host)
    return addresses


def _unresolved(host: str) -> JobError:
    return JobError(
        "repo_unreachable", f"The host '{host}' of repo_url was not found; check its spelling.", retryable=True
    )
