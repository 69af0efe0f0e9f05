"""Pin of a container's IP address in its firewall, so that its root cannot take another's address.

Proxmox lets a container send only from the addresses of the set ``ipfilter-net0``. With DHCP the address is known only
after the start. Until it is in the set, DHCP alone passes. The address is read once, while the container has only what
its template brought: at the first start, and at the first one after a return to the snapshot CLEAN.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from shards.providers.base import Journal
from shards.providers.proxmox.client import Client
from shards.providers.proxmox.naming import Ref

SET: Final = "ipfilter-net0"


class AddressPin:
    """Address set of containers.

    Args:
        client: the API.
    """

    def __init__(self, client: Client) -> None:
        self._client = client

    def reset(self, ref: Ref) -> None:
        """Replace all sets, which a clone has from its template, by an empty one."""
        sets = self._sets(ref)
        for row in self._client.rows(*sets):
            self._client.delete(*sets, str(row["name"]), force=1)
        self._client.post(*sets, name=SET)

    def read(self, ref: Ref) -> list[str]:
        """Return the pinned addresses."""
        sets = self._sets(ref)
        if not any(row.get("name") == SET for row in self._client.rows(*sets)):
            return []
        return [str(row["cidr"]) for row in self._client.rows(*sets, SET)]

    def pin(self, ref: Ref, read_address: Callable[[], str | None], journal: Journal) -> None:
        """Pin the address of a container that has just started, unless one is pinned.

        Args:
            ref: the container.
            read_address: returns its address, or None if it gets none in time.
            journal: receives the result.
        """
        pinned = self.read(ref)
        address = read_address()
        if address is None:
            journal.step("it has no address yet")
        elif not pinned:
            journal.step(f"pin its address {address}")
            if not any(row.get("name") == SET for row in self._client.rows(*self._sets(ref))):
                self._client.post(*self._sets(ref), name=SET)
            self._client.post(*self._sets(ref), SET, cidr=address)
        elif address not in pinned:
            journal.step(
                f"warning: its address is {address}, but {', '.join(pinned)} is pinned, so it reaches nothing;"
                " recycle it, or restore its first snapshot"
            )

    def _sets(self, ref: Ref) -> tuple[str | int, ...]:
        return ("nodes", ref.node, "lxc", ref.vmid, "firewall", "ipset")
