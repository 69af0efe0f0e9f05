"""Preview of routing: the shards that could run a tenant's job, in order, and the excluded ones. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from jobs.dispatch.routing import UNASSIGNED_PRIORITY, RoutableShard, Route, Snapshot, route


@dataclass(frozen=True)
class PreviewedShard:
    """Shard that may run the job.

    Attributes:
        number: its rank in the order, from 1.
        takes_now: it has a free slot now.
        queue: the queue that the job is sent to; the router does not distinguish the shards that consume it.
        reasons: for its rank, the most important first.
    """

    number: int
    shard: str
    shard_class: str
    queue: str
    takes_now: bool
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Excluded:
    """Shard that cannot run the job, with the reason."""

    shard: str
    shard_class: str
    why: str


@dataclass(frozen=True)
class Preview:
    """Result of routing a job now.

    Attributes:
        verdict: one sentence.
        goes: the job would be sent now.
    """

    verdict: str
    goes: bool
    places: tuple[PreviewedShard, ...]
    excluded: tuple[Excluded, ...]


def preview(tenant_id: int, required: Collection[str], snapshot: Snapshot) -> Preview:
    """Return where a job would be sent, and which shards could run it.

    Args:
        tenant_id: the tenant of the job.
        required: capability slugs, at least one.
        snapshot: not changed.
    """
    needed = frozenset(required)
    found = list(_fitting(tenant_id, needed, snapshot))
    places = tuple(
        PreviewedShard(
            number, shard.name, shard.shard_class, queue, snapshot.free(shard) > 0, (*reasons, _load(shard, snapshot))
        )
        for number, (shard, queue, reasons) in enumerate(
            ((shard, queue, reasons) for shard, queue, reasons in found if shard.unhealthy is None), start=1
        )
    )
    usable = {shard.name for shard, _, _ in found}
    excluded = [
        Excluded(shard.name, shard.shard_class, str(shard.unhealthy)) for shard, _, _ in found if shard.unhealthy
    ]
    excluded += [
        Excluded(shard.name, shard.shard_class, _why_unfit(shard, needed))
        for shard in snapshot.shards
        if shard.name not in usable
    ]
    answer = route(tenant_id, needed, snapshot)
    if isinstance(answer, Route):
        return Preview(f"The job goes to the queue {answer.queue} at once.", True, places, tuple(excluded))
    return Preview(answer.reason, False, places, tuple(excluded))


def _fitting(
    tenant_id: int, needed: frozenset[str], snapshot: Snapshot
) -> Iterator[tuple[RoutableShard, str, tuple[str, ...]]]:
    """Yield each shard once, with the best queue that reaches it, in the router's order."""
    seen: set[str] = set()
    for at, targets in enumerate(snapshot.eligible_targets(tenant_id, needed)):
        for target in sorted(targets, key=lambda one: (-one.free() / one.slots, one.route.queue)):
            not_default, priority, _ = target.rank
            more = target.group.capabilities - needed
            reasons = (_right(not not_default, priority, first=at == 0), _qualified(more))
            for shard in sorted(target.shards, key=lambda one: (-snapshot.free(one), one.name)):
                if shard.name not in seen:
                    seen.add(shard.name)
                    yield shard, target.route.queue, reasons


def _right(is_default: bool, priority: int, *, first: bool) -> str:
    if is_default:
        return "the tenant's default"
    if priority >= UNASSIGNED_PRIORITY:
        return "shared: it belongs to no pool, so any tenant may use it"
    return f"assigned with priority {priority}" + ("" if first else ", a fallback")


def _qualified(more: frozenset[str]) -> str:
    if not more:
        return "has exactly the needed capabilities"
    return f"over-qualified by {len(more)}: {', '.join(sorted(more))}"


def _load(shard: RoutableShard, snapshot: Snapshot) -> str:
    free = snapshot.free(shard)
    on_the_way = max(0, shard.free - free)
    waiting = f" and {on_the_way} on the way" if on_the_way else ""
    return f"{shard.running} of {shard.slots} slots in use{waiting}" + ("" if free else ": busy")


def _why_unfit(shard: RoutableShard, needed: frozenset[str]) -> str:
    missing = sorted(needed - shard.capabilities)
    if missing:
        return f"lacks {', '.join(missing)}"
    return f"belongs to the pool {shard.pool}, to which this tenant is not assigned"
