"""References of containers, and the marker that proves one to be ours. Pure.

The marker stands in the container's description from the moment that Proxmox writes its configuration. It holds the
container's own number, so a copy that somebody makes of it is not taken for ours, and a random instance, so a number
that is used again does not stand for the container that had it before.
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
    """That container was not made by this control plane; it is left alone."""

    code = "not_ours"
    http_status = 409


@dataclass(frozen=True)
class Ref:
    """Names one container for good: the node it was made on, its number and its instance."""

    node: str
    vmid: int
    instance: str

    def __str__(self) -> str:
        return f"{self.node}/{self.vmid}/{self.instance}"

    @classmethod
    def of(cls, text: str) -> Ref:
        """Read a reference; ``ProviderError`` if it is none of this provider."""
        found = _REF.fullmatch(text)
        if found is None or not text.isascii():
            raise ProviderError(f"'{text[:60]}' is not a reference of the provider proxmox.")
        return cls(found["node"], int(found["vmid"]), found["instance"])


@dataclass(frozen=True)
class Marker:
    """Who made a container, and for which shard."""

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
        """The marker of this owner for that very number, or None. Two of them are as good as none."""
        found = list(_MARKER.finditer(description)) if isinstance(description, str) else []
        if len(found) != 1 or found[0]["owner"] != owner or int(found[0]["vmid"]) != vmid:
            return None
        created_at = datetime.fromtimestamp(int(found[0]["created"]), UTC)
        return cls(owner, vmid, found[0]["instance"], found[0]["name"], created_at)
