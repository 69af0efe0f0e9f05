"""Finding containers, and telling ours from those of others.

The token sees what is in the pool. Proxmox puts a container there at the very end of making it, so one that is being
made is a number in use and no more. Ours is what is in the pool and has our marker for its own number and instance.
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
from shards.providers.proxmox.permissions import require_sight
from shards.providers.proxmox.settings import Settings


class Standing(StrEnum):
    """What a reference stands for now."""

    OURS = "ours"
    # Nothing has that number.
    FREE = "free"
    # The number stands for something else: a container of others, or a later one of ours.
    OTHERS = "others"
    # The number is in use outside the pool: still being made, taken out of the pool, or somebody else's.
    HIDDEN = "hidden"


@dataclass(frozen=True)
class Seen:
    """One look at a reference; ``node`` is where it is now, which may be another than where it was made."""

    standing: Standing
    node: str = ""
    config: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def lock(self) -> str:
        return str(self.config.get("lock") or "")


class Sight:
    """Looks at the pool."""

    def __init__(self, client: Client, settings: Settings) -> None:
        self._client = client
        self._settings = settings

    def look(self, ref: Ref) -> Seen:
        """Find what a reference stands for.

        Raises:
            ProviderRefused: the token lost its sight of the pool, so nothing can be said.
        """
        member = self._members().get(ref.vmid)
        if member is not None and member.get("type") != "lxc":
            return Seen(Standing.OTHERS)
        node = str((member or {}).get("node") or ref.node)
        config = self._config(node, ref.vmid) if member else None
        if config is None:
            return Seen(Standing.FREE if self.is_free(ref.vmid) else Standing.HIDDEN)
        marker = Marker.in_description(config.get("description"), self._settings.owner, ref.vmid)
        ours = marker is not None and marker.instance == ref.instance
        return Seen(Standing.OURS if ours else Standing.OTHERS, node, config)

    def ours(self, ref: Ref) -> Seen:
        """Find our container; whoever changes it asks here first.

        Raises:
            NoSuchContainer: it is gone.
            NotOurs: the number stands for something that we did not make, or cannot see.
        """
        seen = self.look(ref)
        if seen.standing is Standing.OURS:
            return seen
        if seen.standing is Standing.FREE:
            raise NoSuchContainer(f"The container {ref} is gone.")
        if seen.standing is Standing.HIDDEN:
            raise NotOurs(
                f"The number {ref.vmid} is in use by something that is not in the pool {self._settings.pool}, so it is"
                " left alone. Is it still being made, or was it taken out of the pool?"
            )
        raise NotOurs(f"The number {ref.vmid} stands for a container that is not {ref}; it is left alone.")

    def named(self, name: str) -> Ref | None:
        """Our container of that name."""
        return next((ref for ref, marker, _ in self.all_ours(host_name=name) if marker.name == name), None)

    def all_ours(self, host_name: str | None = None) -> list[tuple[Ref, Marker, Mapping[str, Any]]]:
        """Every container in the pool that has our marker, with what the pool says of it.

        Args:
            host_name: leave out those that are known to be named otherwise.

        Raises:
            ProviderRefused: the token does not see all of the pool.
        """
        require_sight(self._client, self._settings)
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
        """Whether nothing has that number. Proxmox tells everybody so, whatever else they may see."""
        try:
            self._client.get("cluster", "nextid", vmid=vmid)
        except VmidTaken:
            return False
        return True

    def _config(self, node: str, vmid: int) -> dict[str, Any] | None:
        """The configuration of a member of the pool; None when it ceased to be one a moment ago."""
        try:
            return self._client.record("nodes", node, "lxc", vmid, "config")
        except NoSuchContainer:
            return None
        except ProviderRefused:
            # What is not in the pool any more is forbidden rather than absent.
            if vmid not in self._members():
                return None
            raise

    def _members(self) -> dict[int, dict[str, Any]]:
        pool = self._settings.pool
        rows = self._client.rows("pools", poolid=pool)
        if not rows:
            require_sight(self._client, self._settings)
            raise ProviderError(f"Proxmox has no pool {pool}: make it, and give the token its rights there.")
        members = rows[0].get("members")
        if not isinstance(members, list):
            raise ProviderError(f"Proxmox does not say what is in the pool {pool}.")
        return {int(row["vmid"]): row for row in members if isinstance(row, dict) and "vmid" in row}
