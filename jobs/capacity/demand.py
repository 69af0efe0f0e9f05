"""Demand for each pool: which pool should serve which waiting jobs. Pure.

A job that several pools could serve counts for one of them, so that not all of them grow for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple


class WaitingJobs(NamedTuple):
    """Jobs of one tenant with the same capabilities and the same wait.

    Attributes:
        needs: capability slugs.
    """

    tenant_id: int
    needs: frozenset[str]
    waited_s: float
    jobs: int


class AssignmentRank(NamedTuple):
    """Preference of a tenant's assignment to a pool: the default first, then the lower number."""

    is_default: bool
    priority: int


@dataclass(frozen=True)
class PoolCandidate:
    """Pool that could grow.

    Attributes:
        capabilities: of a new shard.
        can_grow: below its limit. If no eligible pool can grow, jobs count for the preferred one.
    """

    pk: int
    name: str
    capabilities: frozenset[str]
    can_grow: bool = True


def waits_by_pool(
    waiting: Iterable[WaitingJobs],
    pools: Iterable[PoolCandidate],
    assignments: Mapping[int, Mapping[str, AssignmentRank]],
    remaining: Mapping[int, int | None],
) -> dict[int, list[float]]:
    """Return the waits of the jobs that each pool should serve, by the pool's id.

    Args:
        waiting: all ready jobs.
        pools: that could grow.
        assignments: by tenant id and name of the pool.
        remaining: by tenant id, how many more of its jobs may run; None means no limit. A missing tenant is inactive
            and may run none. Jobs beyond the limit need no shard.
    """
    candidates = list(pools)
    found: dict[int, list[float]] = {}
    chosen: dict[tuple[int, frozenset[str]], int | None] = {}
    left = dict(remaining)
    for group in sorted(waiting, key=lambda group: -group.waited_s):
        key = (group.tenant_id, group.needs)
        if key not in chosen:
            chosen[key] = _choose(group.needs, candidates, assignments.get(group.tenant_id, {}))
        pool, limit = chosen[key], left.get(group.tenant_id, 0)
        if pool is None:
            continue
        count = group.jobs if limit is None else min(group.jobs, max(0, limit))
        if limit is not None:
            left[group.tenant_id] = limit - count
        found.setdefault(pool, []).extend([group.waited_s] * count)
    return found


def _choose(needs: frozenset[str], pools: list[PoolCandidate], assignments: Mapping[str, AssignmentRank]) -> int | None:
    """Return the pool that the router would choose, preferring pools that can grow."""
    fitting = [pool for pool in pools if pool.name in assignments and needs <= pool.capabilities]
    ranked = sorted(
        fitting,
        key=lambda pool: (
            not assignments[pool.name].is_default, assignments[pool.name].priority, len(pool.capabilities), pool.name,
        ),
    )  # fmt: skip
    return next((pool.pk for pool in [*(pool for pool in ranked if pool.can_grow), *ranked]), None)
