"""Large installation for the benchmarks of routing: a thousand shards in fifty classes, and a thousand tenants."""

from __future__ import annotations

import random
from collections.abc import Sequence

from jobs.dispatch.routing import AssignmentView, RoutableShard
from myctobot.contract.shards import class_queue, shard_class, shard_queue

SHARDS, CLASSES, TENANTS, POOLS = 1_000, 50, 1_000, 10
SLOTS = 4
CAPABILITIES = ("browser", "database", "docker", "fetch", "filesystem", "git", "jira", "mail", "node", "playwright")
_SEED = 4


def class_capabilities() -> list[tuple[list[str], str | None]]:
    """Return capabilities and pool of fifty classes; all have git, and a fifth of them are in pools."""
    pick = random.Random(_SEED)
    found: list[tuple[list[str], str | None]] = []
    while len(found) < CLASSES:
        names = sorted({"git", *pick.sample(CAPABILITIES, pick.randint(1, 5))})
        pool = f"pool-{len(found) // 5 % POOLS}" if len(found) % 5 == 0 else None
        if (names, pool) not in found:
            found.append((names, pool))
    return found


def shards(slots: int = SLOTS, running: int = 0) -> list[RoutableShard]:
    """Return a thousand healthy shards."""
    classes = class_capabilities()
    return [_shard(number, *classes[number % CLASSES], slots, running) for number in range(SHARDS)]


def _shard(number: int, names: list[str], pool: str | None, slots: int, running: int) -> RoutableShard:
    name = f"shard-{number:04}"
    return RoutableShard(
        name=name,
        shard_class=shard_class(names, pool),
        class_queue=class_queue(names, pool),
        own_queue=shard_queue(name),
        capabilities=frozenset(names),
        pool=pool,
        slots=slots,
        running=running,
    )


def assignments() -> dict[int, tuple[AssignmentView, ...]]:
    """Return the assignments: every tenth tenant has a default pool and another as a fallback."""
    return {
        tenant: (
            AssignmentView(None, f"pool-{tenant // 10 % POOLS}", 10, True),
            AssignmentView(None, f"pool-{(tenant // 10 + 1) % POOLS}", 20),
        )
        for tenant in range(0, TENANTS, 10)
    }


def job_requests(count: int) -> Sequence[tuple[int, tuple[str, ...]]]:
    """Return random pairs of a tenant and the capabilities that its job needs; each tenant has two kinds of jobs."""
    pick = random.Random(_SEED)
    shared = [names for names, pool in class_capabilities() if pool is None]
    kinds = [tuple(sorted(pick.sample(names, pick.randint(1, len(names))))) for names in pick.choices(shared, k=40)]
    of_tenant = [pick.sample(kinds, 2) for _ in range(TENANTS)]
    return [(tenant, pick.choice(of_tenant[tenant])) for tenant in pick.choices(range(TENANTS), k=count)]
