"""Which capabilities a tenant may ask for, and who has them."""

from __future__ import annotations

from dataclasses import dataclass

from jobs.dispatch.routing import Snapshot, fitting_shards
from jobs.dispatch.snapshot import load_snapshot
from myctobot.lib.clock import database_now
from myctobot.tenants.models import Tenant
from shards.inventory.capabilities import describe


@dataclass(frozen=True)
class Offer:
    """A capability that a job may ask for.

    Attributes:
        shards: how many of those that the tenant may use have it.
        ready: how many of them take jobs now.
    """

    slug: str
    description: str
    shards: int
    ready: int


def offers_in(tenant_id: int, snapshot: Snapshot) -> list[Offer]:
    """Return what the shards of a snapshot offer to a tenant, by name."""
    shards = fitting_shards(tenant_id, (), snapshot)
    slugs = sorted({slug for shard in shards for slug in shard.capabilities})
    having = {slug: [shard for shard in shards if slug in shard.capabilities] for slug in slugs}
    return [
        Offer(slug, describe(slug), len(found), sum(shard.unhealthy is None for shard in found))
        for slug, found in having.items()
    ]


def offered_capabilities(tenant: Tenant) -> list[Offer]:
    """Return what the shards that the tenant may use offer now, by name."""
    return offers_in(tenant.pk, load_snapshot(database_now()))
