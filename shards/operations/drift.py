"""How what a provider has and what the database says differ. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from shards.lifecycle.states import GONE, LOST
from shards.providers.base import ContainerState, Found

# What is younger may belong to an operation whose row is not seen yet.
ORPHAN_AFTER: Final = timedelta(minutes=10)


class DifferenceKind(StrEnum):
    """How the two sides differ."""

    ORPHAN = "orphan"  # the provider has a container that no shard knows
    MISSING = "missing"  # a shard has a container on record that the provider has not


@dataclass(frozen=True)
class Difference:
    """One difference.

    Attributes:
        may_repair: it is old enough, and nothing is being done about it.
    """

    kind: DifferenceKind
    provider: str
    ref: str
    name: str
    may_repair: bool

    def __str__(self) -> str:
        if self.kind is DifferenceKind.ORPHAN:
            return f"{self.provider} has {self.ref} ({self.name}), which no shard knows"
        return f"shard {self.name} has {self.ref} on record, which {self.provider} has not"


@dataclass(frozen=True)
class Known:
    """A shard's container as the database has it."""

    name: str
    ref: str
    state: str
    is_busy: bool


def compare(provider_name: str, found: Iterable[Found], known: Iterable[Known], now: datetime) -> list[Difference]:
    """Name the differences; pure.

    Args:
        found: what the provider has of ours.
        known: the shards of that provider; busy ones have an operation under way.
        now: to tell an orphan from a container that is being made.
    """
    by_ref = {one.ref: one for one in found if one.state is not ContainerState.GONE}
    shards = list(known)
    refs = {shard.ref for shard in shards if shard.ref and shard.state != GONE}
    names_at_work = {shard.name for shard in shards if shard.is_busy}
    orphans = [
        Difference(
            DifferenceKind.ORPHAN,
            provider_name,
            one.ref,
            one.name,
            one.name not in names_at_work and (one.created_at is None or now - one.created_at > ORPHAN_AFTER),
        )
        for one in by_ref.values()
        if one.ref not in refs
    ]
    missing = [
        Difference(DifferenceKind.MISSING, provider_name, shard.ref, shard.name, not shard.is_busy)
        for shard in shards
        if shard.ref and shard.state not in (GONE, LOST) and shard.ref not in by_ref
    ]
    return orphans + missing
