"""Binding of a stored secret: its purpose, the hosts it may be sent to and the role that may use it; pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final
from urllib.parse import urlsplit

MAX_HOSTS: Final = 20
MAX_HOST_LENGTH: Final = 260
_LABEL: Final = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_PORT: Final = r"[1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]"  # up to 65535
_HOST: Final = re.compile(
    rf"(?P<host>(?:\*\.{_LABEL}\.)?{_LABEL}(?:\.{_LABEL})*|\[[0-9a-f:.]+\])(?::(?P<port>{_PORT}))?"
)
# The same for texts that are still to be written in lower case; JSON Schema has no names of groups.
HOST_PATTERN: Final = re.sub(r"\?P<\w+>", "?:", _HOST.pattern).replace("a-z", "A-Za-z").replace("a-f", "A-Fa-f")
# A host without a port means these ports only: other ports may belong to another program on the same machine.
_DEFAULT_PORTS: Final = {"https": 443, "ssh": 22}


class SecretPurpose(StrEnum):
    """Use that a stored secret is for."""

    UNBOUND = "unbound"
    REPOSITORY = "repository"
    PROVIDER = "provider"
    TRACKER = "tracker"
    WEBHOOK = "webhook"


PURPOSE_LABELS: Final = {
    SecretPurpose.UNBOUND: "unbound: any purpose and host, for admins only",
    SecretPurpose.REPOSITORY: "repository: clone and push",
    SecretPurpose.PROVIDER: "provider: model calls of the gateway",
    SecretPurpose.TRACKER: "tracker: calls to Jira",
    SecretPurpose.WEBHOOK: "webhook: signatures of messages",
}


@dataclass(frozen=True)
class SecretBinding:
    """Limits on the use of a stored secret.

    Attributes:
        purpose: the only use; an unbound secret has none, so only admins use it.
        hosts: for a repository, the hosts it may be sent to, such as ``github.com``, ``git.example.com:8443`` or
            ``*.example.com``; empty for other purposes.
        min_role: lowest role that may use the secret; higher roles include its rights.
    """

    purpose: SecretPurpose = SecretPurpose.UNBOUND
    hosts: tuple[str, ...] = ()
    min_role: str = "admin"


UNBOUND: Final = SecretBinding()


@dataclass(frozen=True)
class SecretUse:
    """Intended use of a stored secret.

    Attributes:
        purpose: purpose of the field that names the secret.
        roles: the caller's role and all roles that it includes; empty for a caller without rights.
        repo_url: repository that receives the secret; empty for other purposes.
    """

    purpose: SecretPurpose
    roles: frozenset[str]
    repo_url: str = ""


def use_problem(binding: SecretBinding, use: SecretUse) -> str | None:
    """Return why a secret may not be used so, as a predicate with its remedy; None if it may.

    The role comes first, so that a caller who may not use the secret learns nothing else of it.
    """
    if binding.purpose == SecretPurpose.UNBOUND:
        return None if "admin" in use.roles else "is not bound to a purpose, so only admins may use it; bind it first"
    if binding.min_role not in use.roles:
        return f"may be used by the role '{binding.min_role}' only; name another secret, or let an admin change that"
    if binding.purpose != use.purpose:
        return (
            f"is for the purpose '{binding.purpose}', not '{use.purpose}'; name a secret that is bound to this purpose"
        )
    if use.purpose == SecretPurpose.REPOSITORY and not _is_sent_to_bound_host(binding.hosts, use.repo_url):
        hosts = ", ".join(binding.hosts)
        return f"may be sent to {hosts} only, not to {_host_text(use.repo_url)}; let an admin add the host"
    return None


def binding_problems(binding: SecretBinding) -> dict[str, str]:
    """Return the problems of a binding that a person chose, by field."""
    is_repository = binding.purpose == SecretPurpose.REPOSITORY
    if binding.purpose == SecretPurpose.UNBOUND:
        return {"purpose": "Choose what the secret is for: repository, provider, tracker or webhook."}
    if is_repository and not binding.hosts:
        return {"hosts": "Name the hosts that the secret may be sent to, such as github.com."}
    if binding.hosts and not is_repository:
        return {"hosts": "Leave this empty: only secrets for repositories have hosts."}
    if len(binding.hosts) > MAX_HOSTS:
        return {"hosts": f"Has {len(binding.hosts)} hosts; the maximum is {MAX_HOSTS}."}
    for host in binding.hosts:
        if not _is_well_formed(host):
            return {
                "hosts": f"'{host[:80]}' is not a host. Write github.com, git.example.com:8443 or *.example.com, in "
                "lower case and without a scheme or path."
            }
    return {}


def host_list(text: str) -> tuple[str, ...]:
    """Return the hosts of a text in which white space or commas separate them, in lower case, each once."""
    return tuple(dict.fromkeys(text.lower().replace(",", " ").split()))


def _is_well_formed(host: str) -> bool:
    return len(host) <= MAX_HOST_LENGTH and _HOST.fullmatch(host) is not None


def _is_sent_to_bound_host(hosts: Sequence[str], url: str) -> bool:
    destination = _destination(url)
    return destination is not None and any(_matches(host, *destination) for host in hosts)


def _destination(url: str) -> tuple[str, int, bool] | None:
    """Return the host of a URL, its port, and true if a host without a port means this port; None without a host."""
    try:
        parts = urlsplit(url)
        port, host = parts.port, (parts.hostname or "").rstrip(".")
    except ValueError:
        return None
    default = _DEFAULT_PORTS.get(parts.scheme)
    actual = default if port is None else port
    if not host or actual is None:
        return None
    return (f"[{host}]" if ":" in host else host), actual, actual == default


def _matches(bound: str, host: str, port: int, is_default_port: bool) -> bool:
    found = _HOST.fullmatch(bound)
    if found is None or (not is_default_port if found["port"] is None else int(found["port"]) != port):
        return False
    wanted = found["host"]
    return host.endswith(wanted[1:]) if wanted.startswith("*.") else host == wanted


def _host_text(url: str) -> str:
    destination = _destination(url)
    if destination is None:
        return "a URL without a known host and port"
    host, port, is_default_port = destination
    return host if is_default_port else f"{host}:{port}"
