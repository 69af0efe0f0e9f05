"""The least rights of the token, and which of them it has.

Proxmox shows a token only what it may see and answers 200 with an empty list otherwise. So whoever reads a list asks
here first: no rights and no containers must not look alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from shards.providers.errors import ProviderRefused
from shards.providers.proxmox.client import Client
from shards.providers.proxmox.settings import Settings


@dataclass(frozen=True)
class Needed:
    """Privileges on one path."""

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
# What no token for shards should have: with it a leaked token is worth the host.
TOO_MUCH = frozenset(
    {"Permissions.Modify", "Sys.Modify", "Sys.PowerMgmt", "Sys.Console", "Realm.Allocate", "User.Modify"}
)


def needed(settings: Settings) -> list[Needed]:
    """The least set for these settings."""
    templates = settings.templates.values()
    return [
        Needed(f"/pool/{settings.pool}", _CONTAINERS),
        Needed(f"/storage/{settings.storage}", frozenset({"Datastore.AllocateSpace", "Datastore.Audit"})),
        Needed(f"/sdn/zones/{settings.sdn_zone}/{settings.bridge}", frozenset({"SDN.Use"})),
        *(Needed(f"/vms/{vmid}", frozenset({"VM.Audit", "VM.Clone"})) for vmid in sorted(_vmids(templates))),
        *(Needed(f"/storage/{storage}", frozenset({"Datastore.Audit"})) for storage in sorted(_storages(templates))),
    ]


def missing(wanted: Iterable[Needed], granted: Mapping[str, Iterable[str]]) -> list[str]:
    """A sentence for each path on which something is missing."""
    return [
        f"The token lacks {', '.join(sorted(lacking))} on {one.path}: grant it to the token and to its user"
        " (docs/proxmox.md)."
        for one in wanted
        if (lacking := one.privileges - set(granted.get(one.path, ())))
    ]


def excessive(granted: Mapping[str, Iterable[str]]) -> list[str]:
    """A sentence for each path on which the token may do what shards never need."""
    return [
        f"The token has {', '.join(sorted(over))} on {path}, with which a leaked token owns the host: take it away."
        for path, privileges in sorted(granted.items())
        if (over := TOO_MUCH & set(privileges))
    ]


def granted(client: Client, wanted: Iterable[Needed]) -> dict[str, set[str]]:
    """The token's own privileges on these paths, as Proxmox works them out."""
    return {path: _on(client, path) for path in dict.fromkeys(one.path for one in wanted)}


def require_sight(client: Client, settings: Settings) -> None:
    """Make sure that the list of the pool's containers is all of them.

    Raises:
        ProviderRefused: the token does not see the pool or what is in it.
    """
    sight = [Needed(f"/pool/{settings.pool}", frozenset({"Pool.Audit", "VM.Audit"}))]
    if lacking := missing(sight, granted(client, sight)):
        raise ProviderRefused(" ".join(lacking))


def _on(client: Client, path: str) -> set[str]:
    answer = client.record("access", "permissions", path=path)
    privileges = answer.get(path)
    return set(privileges) if isinstance(privileges, dict) else set()


def _vmids(templates: Iterable[str]) -> Iterator[str]:
    return (source for source in templates if source.isdigit())


def _storages(templates: Iterable[str]) -> set[str]:
    return {source.partition(":")[0] for source in templates if ":" in source}
