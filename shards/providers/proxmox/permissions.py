"""Minimum rights of the token, and the check of its actual rights.

For a token without rights, Proxmox returns an empty list with status 200. Code that reads a list therefore checks the
rights first, to distinguish missing rights from missing containers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from shards.providers.errors import ProviderRefused
from shards.providers.proxmox.client import Client
from shards.providers.proxmox.settings import Settings


@dataclass(frozen=True)
class RequiredPrivileges:
    """Privileges that the token needs on one path."""

    path: str
    privileges: frozenset[str]


_CONTAINERS = frozenset(
    {
        "Pool.Audit",
        "VM.Allocate",
        "VM.Audit",
        "VM.Config.CPU",
        "VM.Config.Disk",
        "VM.Config.Memory",
        "VM.Config.Network",
        "VM.Config.Options",
        "VM.PowerMgmt",
        "VM.Snapshot",
        "VM.Snapshot.Rollback",
    }
)
# Privileges that the token must not have, because a leaked token would then control the host.
FORBIDDEN = frozenset(
    {"Permissions.Modify", "Sys.Modify", "Sys.PowerMgmt", "Sys.Console", "Realm.Allocate", "User.Modify"}
)


def required(settings: Settings) -> list[RequiredPrivileges]:
    """Return the minimum rights for the settings."""
    templates = settings.templates.values()
    return [
        RequiredPrivileges(f"/pool/{settings.pool}", _CONTAINERS),
        RequiredPrivileges(f"/storage/{settings.storage}", frozenset({"Datastore.AllocateSpace", "Datastore.Audit"})),
        RequiredPrivileges(f"/sdn/zones/{settings.sdn_zone}/{settings.bridge}", frozenset({"SDN.Use"})),
        *(
            RequiredPrivileges(f"/vms/{vmid}", frozenset({"VM.Audit", "VM.Clone"}))
            for vmid in sorted(_vmids(templates))
        ),
        *(
            RequiredPrivileges(f"/storage/{storage}", frozenset({"Datastore.Audit"}))
            for storage in sorted(_storages(templates))
        ),
    ]


def missing(wanted: Iterable[RequiredPrivileges], granted: Mapping[str, Iterable[str]]) -> list[str]:
    """Return a sentence for each path on which a right is missing."""
    return [
        f"The token lacks {', '.join(sorted(lacking))} on {one.path}: grant it to the token and to its user"
        " (docs/proxmox.md)."
        for one in wanted
        if (lacking := one.privileges - set(granted.get(one.path, ())))
    ]


def excessive(granted: Mapping[str, Iterable[str]]) -> list[str]:
    """Return a sentence for each path on which the token has a forbidden right."""
    return [
        f"The token has {', '.join(sorted(over))} on {path}; a leaked token would control the host. Revoke it."
        for path, privileges in sorted(granted.items())
        if (over := FORBIDDEN & set(privileges))
    ]


def granted(client: Client, wanted: Iterable[RequiredPrivileges]) -> dict[str, set[str]]:
    """Return the token's effective privileges on these paths."""
    return {path: _on(client, path) for path in dict.fromkeys(one.path for one in wanted)}


def require_visibility(client: Client, settings: Settings) -> None:
    """Check that the token sees all containers of the pool.

    Raises:
        ProviderRefused: the token does not see the pool or its containers.
    """
    visibility = [RequiredPrivileges(f"/pool/{settings.pool}", frozenset({"Pool.Audit", "VM.Audit"}))]
    if lacking := missing(visibility, granted(client, visibility)):
        raise ProviderRefused(" ".join(lacking))


def _on(client: Client, path: str) -> set[str]:
    answer = client.record("access", "permissions", path=path)
    privileges = answer.get(path)
    return set(privileges) if isinstance(privileges, dict) else set()


def _vmids(templates: Iterable[str]) -> Iterator[str]:
    return (source for source in templates if source.isdigit())


def _storages(templates: Iterable[str]) -> set[str]:
    return {source.partition(":")[0] for source in templates if ":" in source}
