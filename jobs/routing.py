"""Routing is queue selection: a pure decision over a snapshot of shards, assignments and load."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

# An unassigned tenant's use of a shared shard ranks after every assignment.
UNASSIGNED_PRIORITY = 1_000_000


@dataclass(frozen=True)
class ShardView:
    """A shard as the router sees it.

    Attributes:
        unhealthy: a few words that say why it takes no job now; None when it does.
        running: attempts that it holds.
    """

    name: str
    shard_class: str
    class_queue: str
    own_queue: str
    capabilities: frozenset[str]
    pool: str | None
    slots: int
    running: int
    unhealthy: str | None = None


@dataclass(frozen=True)
class AssignmentView:
    """A tenant's right to one shard or one pool; the lower priority number is preferred."""

    shard: str | None
    pool: str | None
    priority: int
    is_default: bool = False


@dataclass(frozen=True)
class Route:
    """Send the job here."""

    queue: str
    shard_class: str


@dataclass(frozen=True)
class NoRoute:
    """Why the job goes nowhere now.

    Attributes:
        code: for programs, such as ``class_busy``.
        reason: one sentence for people.
        ever: whether waiting can help; False means that no shard of the tenant has the capabilities.
    """

    code: str
    reason: str
    ever: bool = True


@dataclass
class Snapshot:
    """Shards and load, read once a round; ``place`` counts capacity down while jobs are placed.

    Attributes:
        shards: all that are not deleted.
        assignments: by tenant id.
        sent: attempts that are in a queue and not yet claimed, by queue.
    """

    shards: tuple[ShardView, ...]
    assignments: dict[int, tuple[AssignmentView, ...]] = field(default_factory=dict)
    sent: Counter[str] = field(default_factory=Counter)

    def place(self, route: Route) -> None:
        self.sent[route.queue] += 1

    def free(self, shards: Iterable[ShardView]) -> int:
        """Slots that neither a runner nor a message on its way to one of these shards has taken."""
        members = [shard for shard in shards if shard.unhealthy is None]
        queues = {shard.class_queue for shard in members} | {shard.own_queue for shard in members}
        return sum(max(0, shard.slots - shard.running) for shard in members) - sum(self.sent[q] for q in queues)


@dataclass(frozen=True)
class _Target:
    queue: str
    shard_class: str
    shards: tuple[ShardView, ...]
    is_default: bool
    priority: int


def route(tenant_id: int, required: Iterable[str], snapshot: Snapshot) -> Route | NoRoute:
    """Pick the queue for a job.

    Among the queues whose shards have the capabilities, that the tenant may use and that have a free slot:
    the default assignment first, then by assignment priority, then the least over-qualified class, then
    the least loaded.

    Args:
        tenant_id: whose job it is.
        required: capability slugs.
        snapshot: read once a round; not changed.
    """
    needed = frozenset(required)
    targets = _fitting(tenant_id, needed, snapshot)
    if not targets:
        return _nobody(needed, snapshot, snapshot.assignments.get(tenant_id, ()))
    open_targets = [target for target in targets if snapshot.free(target.shards) > 0]
    if not open_targets:
        return _all_taken(needed, targets)
    best = min(open_targets, key=lambda target: _rank(target, snapshot))
    return Route(best.queue, best.shard_class)


def fitting_shards(tenant_id: int, required: Iterable[str], snapshot: Snapshot) -> tuple[ShardView, ...]:
    """Shards that the tenant may use and that have what is required, whether or not they could take a job now."""
    return tuple(shard for target in _fitting(tenant_id, frozenset(required), snapshot) for shard in target.shards)


def _fitting(tenant_id: int, needed: frozenset[str], snapshot: Snapshot) -> list[_Target]:
    allowed = _targets(snapshot, snapshot.assignments.get(tenant_id, ()))
    return [target for target in allowed if needed <= target.shards[0].capabilities]


def _rank(target: _Target, snapshot: Snapshot) -> tuple[bool, int, int, float, str]:
    slots = sum(shard.slots for shard in target.shards if shard.unhealthy is None)
    load = 1 - snapshot.free(target.shards) / slots
    return (not target.is_default, target.priority, len(target.shards[0].capabilities), load, target.queue)


def _targets(snapshot: Snapshot, assignments: tuple[AssignmentView, ...]) -> Iterator[_Target]:
    """The queues that a tenant may use: a class's, or shard by shard where it may use only some of a class."""
    by_class: dict[str, list[ShardView]] = {}
    for shard in snapshot.shards:
        by_class.setdefault(shard.shard_class, []).append(shard)
    for name, members in by_class.items():
        rights = {shard.name: _right(shard, assignments) for shard in members}
        granted = [right for right in rights.values() if right is not None]
        if len(set(granted)) == 1 and len(granted) == len(members):
            default, priority = granted[0]
            yield _Target(members[0].class_queue, name, tuple(members), default, priority)
            continue
        for shard in members:
            right = rights[shard.name]
            if right is not None:
                yield _Target(shard.own_queue, name, (shard,), *right)


def _right(shard: ShardView, assignments: tuple[AssignmentView, ...]) -> tuple[bool, int] | None:
    """The tenant's best right to a shard as (is_default, priority), or None when it has none."""
    fitting = [
        (entry.is_default, entry.priority)
        for entry in assignments
        if entry.shard == shard.name or (entry.pool is not None and entry.pool == shard.pool)
    ]
    if fitting:
        return min(fitting, key=lambda right: (not right[0], right[1]))
    return (False, UNASSIGNED_PRIORITY) if shard.pool is None else None


def _nobody(needed: frozenset[str], snapshot: Snapshot, assignments: tuple[AssignmentView, ...]) -> NoRoute:
    usable = [shard for shard in snapshot.shards if _right(shard, assignments) is not None]
    missing = sorted(needed - frozenset().union(*(shard.capabilities for shard in usable)))
    if not usable:
        return NoRoute("no_shard", "This tenant has no shard that it may use; ask an operator to assign one.", False)
    if missing:
        have = ", ".join(sorted(frozenset().union(*(shard.capabilities for shard in usable))))
        reason = f"No shard of this tenant has {_list(missing)}; its shards have {have}."
    else:
        reason = f"No single shard of this tenant has all of {_list(sorted(needed))}."
    return NoRoute("capability_missing", reason, False)


def _all_taken(needed: frozenset[str], targets: list[_Target]) -> NoRoute:
    shards = sorted({shard.name: shard for target in targets for shard in target.shards}.items())
    sick = [f"{name} {shard.unhealthy}" for name, shard in shards if shard.unhealthy is not None]
    if len(sick) == len(shards):
        return NoRoute("no_healthy_shard", f"No healthy shard with {_list(sorted(needed))}: {'; '.join(sick)}.")
    busy = len(shards) - len(sick)
    subject = "The only healthy shard" if busy == 1 else f"All {busy} healthy shards"
    verb = "is" if busy == 1 else "are"
    more = f" ({'; '.join(sick)})" if sick else ""
    return NoRoute("class_busy", f"{subject} with {_list(sorted(needed))} {verb} busy{more}.")


def _list(names: list[str]) -> str:
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]
