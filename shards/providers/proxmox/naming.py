"""References of containers, and the marker that identifies this control plane's containers; pure.

The marker is in the container's description from its creation on. It contains the container's number, so that a copy of
the container does not count as ours. It also contains a random instance, so that a reused number does not refer to an
earlier container.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime

from shards.providers.errors import ProviderError

_REF = re.compile(
    r"(?P<node>[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)/(?P<vmid>[1-9]\d{2,8})/(?P<instance>[0-9a-f]{16})"
)
_MARKER = re.compile(
    r"^myctobot-shard owner=(?P<owner>[a-z0-9-]+) vmid=(?P<vmid>\d+) instance=(?P<instance>[0-9a-f]{16})"
    r" name=(?P<name>[a-z0-9-]+) created=(?P<created>\d{1,11})$",
    re.MULTILINE | re.ASCII,
)


class NotOurs(ProviderError):
    """The container was not created by this control plane, so it is not touched."""

    code = "not_ours"
    http_status = 409


@dataclass(frozen=True)
class Ref:
    """Unique reference of a container: the node of its creation, its number and its instance."""

    node: str
    vmid: int
    instance: str

    def __str__(self) -> str:
        return f"{self.node}/{self.vmid}/{self.instance}"

    @classmethod
    def of(cls, text: str) -> Ref:
        """Parse a reference; raise ``ProviderError`` if it is not one of this provider."""
        found = _REF.fullmatch(text)
        if found is None or not text.isascii():
            raise ProviderError(f"'{text[:60]}' is not a reference of the provider proxmox.")
        return cls(found["node"], int(found["vmid"]), found["instance"])


@dataclass(frozen=True)
class Marker:
    """Marker in a container's description: its owner and its shard."""

    owner: str
    vmid: int
    instance: str
    name: str
    created_at: datetime

    def __str__(self) -> str:
        return (
            f"myctobot-shard owner={self.owner} vmid={self.vmid} instance={self.instance}"
            f" name={self.name} created={int(self.created_at.timestamp())}"
        )

    @classmethod
    def in_description(cls, description: object, owner: str, vmid: int) -> Marker | None:
        """Return the owner's marker for this number, or None if there is not exactly one."""
        found = list(_MARKER.finditer(description)) if isinstance(description, str) else []
        if len(found) != 1 or found[0]["owner"] != owner or int(found[0]["vmid"]) != vmid:
            return None
        created_at = datetime.fromtimestamp(int(found[0]["created"]), UTC)
        return cls(owner, vmid, found[0]["instance"], found[0]["name"], created_at)
