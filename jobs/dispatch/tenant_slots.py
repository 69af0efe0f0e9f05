"""Slots and limits of each tenant."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from jobs.dispatch import queries
from jobs.dispatch.fair_share import TenantView
from jobs.dispatch.routing import Snapshot
from myctobot.tenants.models import Tenant


@dataclass(frozen=True)
class Slots:
    """Slots that tenants have or are about to have, by tenant id.

    Attributes:
        every: all their slots.
        shared: slots that count for the fair share; those in a tenant's own pool take nothing from other tenants.
        used_s: slot-seconds of shared slots since a time, including ended attempts.
    """

    every: Counter[int]
    shared: Counter[int]
    used_s: dict[int, float]


def slots_of_tenants(snapshot: Snapshot, since: datetime) -> Slots:
    """Read the slots of each tenant now, and their use since a time."""
    pools = (pool for assignments in snapshot.assignments.values() for pool in {entry.pool for entry in assignments})
    holders = Counter(pool for pool in pools if pool)
    found = Slots(Counter(), Counter(), {})
    for tenant_id, shard_class, count, used_s in queries.slot_usage(since):
        is_shared = holders[shard_class.partition("@")[2]] != 1
        if count:
            found.every[tenant_id] += count
        if count and is_shared:
            found.shared[tenant_id] += count
        if is_shared:
            found.used_s[tenant_id] = found.used_s.get(tenant_id, 0.0) + used_s
    return found


def load_tenants(tenant_ids: Iterable[int], elsewhere: Counter[int] | None = None) -> dict[int, TenantView]:
    """Read weights and limits of active tenants.

    Args:
        tenant_ids: the tenants to read.
        elsewhere: slots that the caller does not count itself; they are subtracted from the limit.
    """
    uncounted = elsewhere or Counter()
    rows = Tenant.objects.filter(pk__in=list(tenant_ids), is_active=True)
    return {
        pk: TenantView(weight, None if limit is None else limit - uncounted[pk])
        for pk, weight, limit in rows.values_list("pk", "weight", "max_running_jobs")
    }
