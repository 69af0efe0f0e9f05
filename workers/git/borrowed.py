"""Objects that the repositories in a sandbox read from the shard, and the packed refs of a new checkout."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from workers.sandbox.sandbox import Mount

# Folders of objects as the sandbox sees them.
FETCHED: Final = "/run/base/objects"
KEPT: Final = "/run/kept/objects"


@dataclass
class ObjectSources:
    """Folders of objects that every process of a sandbox reads and none writes.

    Args:
        mounts: folders on the shard, and where the sandbox sees them.
    """

    mounts: list[Mount] = field(default_factory=list)

    @property
    def folders(self) -> list[str]:
        return [mount.target for mount in self.mounts]


def packed_refs(refs: Mapping[str, str], tags: Iterable[str]) -> str:
    """Return the content of ``packed-refs``.

    Args:
        refs: commits by the full names of branches.
        tags: lines for tags, which may be followed by the lines of what they point to.
    """
    lines = [f"{sha} {name}" for name, sha in refs.items()]
    # Without the word "sorted", git sorts the names itself.
    return "".join(f"{line}\n" for line in ["# pack-refs with: peeled fully-peeled ", *lines, *tags])
