"""Which pool is to serve which of the jobs that wait; pure.

A job that several pools could serve counts for one of them, so that not all of them grow for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple


class Waiting(NamedTuple):
    """Jobs of one tenant that need the same and have waited for as long.

    Attributes:
        needs: capability slugs.
    """

    tenant_id: int
    needs: frozenset[str]
    waited_s: float
    jobs: int


class Right(NamedTuple):
    """A tenant's right to a pool; the default first, then the lower number."""

    is_default: bool
    priority: int


@dataclass(frozen=True)
class PoolOffer:
    """A pool that could have more shards.

    Attributes:
        capabilities: of a new shard.
        has_room: whether it may have one more; where none has, jobs count for the pool that they would go to.
    """

    pk: int
    name: str
    capabilities: frozenset[str]
    has_room: bool = True


def waits_by_pool(
    waiting: Iterable[Waiting],
    pools: Iterable[PoolOffer],
    rights: Mapping[int, Mapping[str, Right]],
    left: Mapping[int, int | None],
) -> dict[int, list[float]]:
    """How long each job has waited that a pool is to serve, by the pool's id.

    Args:
        waiting: all that wait for a slot.
        pools: see there.
        rights: by tenant id and name of the pool.
        left: by tenant id, how many more of its jobs may run; None is without bound. Of a tenant that is not named
            none may: it is switched off. What a tenant may not run needs no shard.
    """
    offers = list(pools)
    found: dict[int, list[float]] = {}
    chosen: dict[tuple[int, frozenset[str]], int | None] = {}
    may = dict(left)
    for group in sorted(waiting, key=lambda group: -group.waited_s):
        place = (group.tenant_id, group.needs)
        if place not in chosen:
            chosen[place] = _choose(group.needs, offers, rights.get(group.tenant_id, {}))
        pool, most = chosen[place], may.get(group.tenant_id, 0)
        if pool is None:
            continue
        count = group.jobs if most is None else min(group.jobs, max(0, most))
        if most is not None:
            may[group.tenant_id] = most - count
        found.setdefault(pool, []).extend([group.waited_s] * count)
    return found


def _choose(needs: frozenset[str], pools: list[PoolOffer], rights: Mapping[str, Right]) -> int | None:
    """The pool as the router would choose it, one with room before one without."""
    fitting = [pool for pool in pools if pool.name in rights and needs <= pool.capabilities]
    ranked = sorted(
        fitting,
        key=lambda pool: (
            not rights[pool.name].is_default, rights[pool.name].priority, len(pool.capabilities), pool.name,
        ),
    )  # fmt: skip
    return next((pool.pk for pool in [*(pool for pool in ranked if pool.has_room), *ranked]), None)
