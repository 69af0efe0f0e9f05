"""Differences between a provider's containers and the database; pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from shards.lifecycle.states import GONE, LOST
from shards.providers.base import ContainerState, ManagedContainer

# A younger container may belong to an operation that has not stored its reference yet.
ORPHAN_AFTER: Final = timedelta(minutes=10)


class DifferenceKind(StrEnum):
    """Kind of difference."""

    # The provider has a container that no shard refers to.
    ORPHAN = "orphan"
    # A shard refers to a container that the provider does not have.
    MISSING = "missing"


@dataclass(frozen=True)
class Drift:
    """Difference between a provider and the database.

    Attributes:
        may_repair: it is old enough, and no operation works on it.
    """

    kind: DifferenceKind
    provider: str
    ref: str
    name: str
    may_repair: bool

    def __str__(self) -> str:
        if self.kind is DifferenceKind.ORPHAN:
            return f"{self.provider} has {self.ref} ({self.name}), which belongs to no shard"
        return f"shard {self.name} refers to {self.ref}, which {self.provider} does not have"


@dataclass(frozen=True)
class KnownContainer:
    """Container of a shard according to the database."""

    name: str
    ref: str
    state: str
    is_busy: bool


def compare(
    provider_name: str, found: Iterable[ManagedContainer], known: Iterable[KnownContainer], now: datetime
) -> list[Drift]:
    """Return the differences.

    Args:
        found: containers of this installation that the provider has.
        known: shards of that provider; a busy one has an operation in progress.
        now: distinguishes an orphan from a container that is being created.
    """
    by_ref = {one.ref: one for one in found if one.state is not ContainerState.GONE}
    shards = list(known)
    refs = {shard.ref for shard in shards if shard.ref and shard.state != GONE}
    busy_names = {shard.name for shard in shards if shard.is_busy}
    orphans = [
        Drift(
            DifferenceKind.ORPHAN,
            provider_name,
            one.ref,
            one.name,
            one.name not in busy_names and (one.created_at is None or now - one.created_at > ORPHAN_AFTER),
        )
        for one in by_ref.values()
        if one.ref not in refs
    ]
    missing = [
        Drift(DifferenceKind.MISSING, provider_name, shard.ref, shard.name, not shard.is_busy)
        for shard in shards
        if shard.ref and shard.state not in (GONE, LOST) and shard.ref not in by_ref
    ]
    return orphans + missing
