"""Isolation that shards report."""

from __future__ import annotations

from typing import Final

from myctobot.contract.shards import IsolationKind
from shards.models import Shard, ShardState

_WORKING: Final = (ShardState.READY, ShardState.SUSPECT, ShardState.DRAINING)


def has_unsandboxed_shard() -> bool:
    """Tell whether a shard that has or may get jobs runs its agents without a sandbox, by its last report."""
    working = Shard.objects.filter(is_active=True, state__in=_WORKING)
    return working.filter(report__isolation=IsolationKind.NONE.value).exists()
