"""Lookup of containers and of their ownership.

The token sees only the pool. Proxmox adds a container to the pool at the end of its creation, so until then only its
number is visible as used. A container is ours if it is in the pool and has our marker with its number and instance.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from shards.providers.errors import ProviderError, ProviderRefused
from shards.providers.proxmox.client import Client
from shards.providers.proxmox.errors import NoSuchContainer, VmidTaken
from shards.providers.proxmox.naming import Marker, NotOurs, Ref
from shards.providers.proxmox.permissions import require_visibility
from shards.providers.proxmox.settings import Settings


class Ownership(StrEnum):
    """Ownership of a reference's number."""

    OURS = "ours"
    # The number is unused.
    FREE = "free"
    # The number belongs to another container: a foreign one, or a later one of ours.
    OTHERS = "others"
    # The number is used outside the pool: by a creation, a container that left the pool, or a foreign one.
    HIDDEN = "hidden"


@dataclass(frozen=True)
class LookupResult:
    """Result of a lookup; ``node`` is the present node, which may differ from the node of the creation."""

    ownership: Ownership
    node: str = ""
    config: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def lock(self) -> str:
        return str(self.config.get("lock") or "")


class Lookup:
    """Lookup of containers in the pool."""

    def __init__(self, client: Client, settings: Settings) -> None:
        self._client = client
        self._settings = settings

    def find(self, ref: Ref) -> LookupResult:
        """Find the container of a reference.

        Raises:
            ProviderRefused: the token can no longer see the pool, so the result is unknown.
        """
        member = self._members().get(ref.vmid)
        if member is not None and member.get("type") != "lxc":
            return LookupResult(Ownership.OTHERS)
        node = str((member or {}).get("node") or ref.node)
        config = self._config(node, ref.vmid) if member else None
        if config is None:
            return LookupResult(Ownership.FREE if self.is_free(ref.vmid) else Ownership.HIDDEN)
        marker = Marker.in_description(config.get("description"), self._settings.owner, ref.vmid)
        ours = marker is not None and marker.instance == ref.instance
        return LookupResult(Ownership.OURS if ours else Ownership.OTHERS, node, config)

    def ours(self, ref: Ref) -> LookupResult:
        """Find a container of this control plane; every change of a container calls this first.

        Raises:
            NoSuchContainer: it is gone.
            NotOurs: the number belongs to a container that is not ours or not visible.
        """
        result = self.find(ref)
        if result.ownership is Ownership.OURS:
            return result
        if result.ownership is Ownership.FREE:
            raise NoSuchContainer(f"The container {ref} is gone.")
        if result.ownership is Ownership.HIDDEN:
            raise NotOurs(
                f"The number {ref.vmid} is used by something that is not in the pool {self._settings.pool}, so it is"
                " not touched. Is it still being created, or was it removed from the pool?"
            )
        raise NotOurs(f"The number {ref.vmid} belongs to a container that is not {ref}, so it is not touched.")

    def named(self, name: str) -> Ref | None:
        """Return our container with this name, or None."""
        return next((ref for ref, marker, _ in self.all_ours(host_name=name) if marker.name == name), None)

    def all_ours(self, host_name: str | None = None) -> list[tuple[Ref, Marker, Mapping[str, Any]]]:
        """Return every container in the pool that has our marker, with its entry in the pool.

        Args:
            host_name: skip containers that have another host name.

        Raises:
            ProviderRefused: the token does not see the whole pool.
        """
        require_visibility(self._client, self._settings)
        found: list[tuple[Ref, Marker, Mapping[str, Any]]] = []
        for vmid, member in sorted(self._members().items()):
            if host_name and member.get("name") not in (host_name, None):
                continue
            node = str(member.get("node") or "")
            config = self._config(node, vmid) if member.get("type") == "lxc" and node else None
            marker = Marker.in_description((config or {}).get("description"), self._settings.owner, vmid)
            if marker is not None:
                found.append((Ref(node, vmid, marker.instance), marker, member))
        return found

    def is_free(self, vmid: int) -> bool:
        """Tell whether a number is unused; Proxmox answers this for every token."""
        try:
            self._client.get("cluster", "nextid", vmid=vmid)
        except VmidTaken:
            return False
        return True

    def _config(self, node: str, vmid: int) -> dict[str, Any] | None:
        """Return the configuration of a pool member, or None if it has just left the pool."""
        try:
            return self._client.record("nodes", node, "lxc", vmid, "config")
        except NoSuchContainer:
            return None
        except ProviderRefused:
            # Proxmox reports a container outside the pool as forbidden, not as absent.
            if vmid not in self._members():
                return None
            raise

    def _members(self) -> dict[int, dict[str, Any]]:
        pool = self._settings.pool
        rows = self._client.rows("pools", poolid=pool)
        if not rows:
            require_visibility(self._client, self._settings)
            raise ProviderError(f"Proxmox has no pool {pool}. Create it, and grant the token its rights on it.")
        members = rows[0].get("members")
        if not isinstance(members, list):
            raise ProviderError(f"Proxmox does not list the members of the pool {pool}.")
        return {int(row["vmid"]): row for row in members if isinstance(row, dict) and "vmid" in row}
