"""Capabilities that a tenant may request, and the shards that have them."""

from __future__ import annotations

from dataclasses import dataclass

from jobs.dispatch.routing import Snapshot, eligible_shards
from jobs.dispatch.snapshot import load_snapshot
from myctobot.lib.clock import database_now
from myctobot.tenants.models import Tenant
from shards.inventory.capabilities import describe


@dataclass(frozen=True)
class AvailableCapability:
    """Capability that a job may request.

    Attributes:
        shards: number of the tenant's shards that have it.
        ready: number of those that take jobs now.
    """

    slug: str
    description: str
    shards: int
    ready: int


def capabilities_in(tenant_id: int, snapshot: Snapshot) -> list[AvailableCapability]:
    """Return the capabilities that the shards of a snapshot offer to a tenant, by name."""
    shards = eligible_shards(tenant_id, (), snapshot)
    slugs = sorted({slug for shard in shards for slug in shard.capabilities})
    having = {slug: [shard for shard in shards if slug in shard.capabilities] for slug in slugs}
    return [
        AvailableCapability(slug, describe(slug), len(found), sum(shard.unhealthy is None for shard in found))
        for slug, found in having.items()
    ]


def available_capabilities(tenant: Tenant) -> list[AvailableCapability]:
    """Return the capabilities that the tenant may request now, by name."""
    return capabilities_in(tenant.pk, load_snapshot(database_now()))
