"""Routing: choose a queue for a job from a snapshot of shards, assignments and load. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

# Rank of a tenant without an assignment on a shared shard: after every assignment.
UNASSIGNED_PRIORITY = 1_000_000
# Maximum number of shards that a sentence names.
_MAX_NAMES = 5


@dataclass(frozen=True)
class RoutableShard:
    """Shard with the fields that the router reads.

    Attributes:
        unhealthy: a phrase that says why it takes no job now; None when it takes jobs.
        suspended: an operator drains it, or paused its class or pool.
        running: number of attempts that it has claimed.
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
    suspended: bool = False

    @property
    def free(self) -> int:
        """Return the slots without a runner; messages on their way to the shard are not subtracted."""
        return 0 if self.unhealthy is not None else max(0, self.slots - self.running)


@dataclass(frozen=True)
class AssignmentView:
    """Assignment of a tenant to one shard or one pool; the lower priority number is preferred."""

    shard: str | None
    pool: str | None
    priority: int
    is_default: bool = False


@dataclass(frozen=True)
class Route:
    """Queue that a job is sent to."""

    queue: str
    shard_class: str


@dataclass(frozen=True)
class NoRoute:
    """Reason why a job cannot be sent now.

    Attributes:
        code: for programs, such as ``class_busy``.
        reason: one sentence for people.
        can_ever_run: false when no shard of the tenant has the capabilities, so that waiting cannot help.
    """

    code: str
    reason: str
    can_ever_run: bool = True


class ShardClass:
    """Shards of one class and the number of their free slots."""

    def __init__(self, members: list[RoutableShard], sent: Counter[str]) -> None:
        first = members[0]
        self.name, self.queue, self.pool = first.shard_class, first.class_queue, first.pool
        self.capabilities = first.capabilities
        self.shards = tuple(members)
        self.slots = sum(shard.slots for shard in members if shard.unhealthy is None)
        # A message takes a slot of its shard and of its class, so both are counted.
        self.own_free = {shard.own_queue: shard.free - sent[shard.own_queue] for shard in members}
        on_the_way = sent[self.queue] + sum(sent[shard.own_queue] for shard in members)
        self.free = sum(shard.free for shard in members) - on_the_way
        # Stored as an attribute, because every decision compares it.
        self.share = self.free / self.slots if self.slots else 0.0

    @property
    def healthy(self) -> int:
        """Return the number of shards that take jobs."""
        return sum(shard.unhealthy is None for shard in self.shards)

    @property
    def running(self) -> int:
        """Return the number of jobs that its shards run."""
        return sum(shard.running for shard in self.shards)

    def add_free(self, slots: int) -> None:
        """Add to the number of free slots; a negative number removes some."""
        self.free += slots
        self.share = self.free / self.slots if self.slots else 0.0


class _Target:
    """Queue that a tenant may use: of a class or of one shard.

    Args:
        rank: preference before the load is compared; the lowest rank goes first.
        shard: None for the queue of the whole class.
    """

    __slots__ = ("group", "rank", "route", "shard", "shards", "slots")

    def __init__(self, group: ShardClass, rank: tuple[bool, int, int], shard: RoutableShard | None = None) -> None:
        self.group, self.rank, self.shard = group, rank, shard
        self.shards = (shard,) if shard else group.shards
        self.slots = max(1, shard.slots if shard else group.slots)
        # Created once, because a new object takes longer than a decision.
        self.route = Route(shard.own_queue if shard else group.queue, group.name)

    def free(self) -> int:
        return min(self.group.own_free[self.shard.own_queue], self.group.free) if self.shard else self.group.free


class Snapshot:
    """Shards, assignments and load, read once a round; ``place`` decreases the capacity for each placed job.

    Args:
        shards: all that are not deleted.
        assignments: by tenant id.
        sent: number of unclaimed attempts by queue.
    """

    def __init__(
        self,
        shards: Iterable[RoutableShard],
        assignments: dict[int, tuple[AssignmentView, ...]] | None = None,
        sent: Counter[str] | None = None,
    ) -> None:
        self.shards = tuple(shards)
        self.assignments = assignments or {}
        on_the_way = sent or Counter()
        members: dict[str, list[RoutableShard]] = {}
        for shard in self.shards:
            members.setdefault(shard.shard_class, []).append(shard)
        self.classes = {name: ShardClass(found, on_the_way) for name, found in members.items()}
        self._by_name = {shard.name: shard for shard in self.shards}
        self.free_slots = sum(max(0, group.free) for group in self.classes.values())
        # Most tenants have the same assignments and most jobs need the same, so the eligible targets are cached.
        self._eligible: dict[tuple[int | tuple[AssignmentView, ...], frozenset[str]], list[list[_Target]]] = {}

    def place(self, route: Route) -> None:
        """Take a free slot of a route."""
        group = self.classes[route.shard_class]
        group.add_free(-1)
        self.free_slots -= 1
        if route.queue in group.own_free:
            group.own_free[route.queue] -= 1

    def has_capacity_for(self, required: Collection[str]) -> bool:
        """Tell whether any shard with these capabilities has a free slot, for any tenant."""
        return any(group.free > 0 and group.capabilities.issuperset(required) for group in self.classes.values())

    def free(self, shard: RoutableShard) -> int:
        """Return the slots of a shard that are neither occupied nor reserved by a message on its way."""
        group = self.classes[shard.shard_class]
        return max(0, min(group.own_free[shard.own_queue], group.free))

    def eligible_targets(self, tenant_id: int, needed: frozenset[str]) -> list[list[_Target]]:
        """Return the queues that the tenant may use for these capabilities, busy or not, grouped by rank."""
        found = self._eligible.get((tenant_id, needed))
        if found is None:
            assignments = self.assignments.get(tenant_id, ())
            found = self._eligible.get((assignments, needed))
            if found is None:
                found = self._eligible[assignments, needed] = _by_rank(self._targets(assignments, needed))
            self._eligible[tenant_id, needed] = found
        return found

    def _targets(self, assignments: tuple[AssignmentView, ...], needed: frozenset[str]) -> Iterator[_Target]:
        to_pools, to_shards = _best_assignments(assignments)
        special: dict[str, dict[str, RoutableShard]] = {}
        for name in to_shards:
            if name in self._by_name:
                shard = self._by_name[name]
                special.setdefault(shard.shard_class, {})[name] = shard
        for group in self.classes.values():
            if not needed <= group.capabilities:
                continue
            extra = len(group.capabilities)
            base = to_pools.get(group.pool) if group.pool else (False, UNASSIGNED_PRIORITY)
            named = special.get(group.name, {})
            if len(named) == len(group.shards) and len({to_shards[name] for name in named}) == 1:
                # The same assignment to every shard of a class equals an assignment to the class.
                base, named = min(to_shards[next(iter(named))], base or _NO_ASSIGNMENT, key=_sort_key), {}
            for name, shard in named.items():
                assignment = to_shards[name]
                if base is None or _sort_key(assignment) < _sort_key(base):
                    yield _Target(group, (not assignment[0], assignment[1], extra), shard)
            if base is not None:
                yield _Target(group, (not base[0], base[1], extra))


_NO_ASSIGNMENT = (False, 2 * UNASSIGNED_PRIORITY)


def _sort_key(assignment: tuple[bool, int]) -> tuple[bool, int]:
    """Return a sort key for assignments: the default first, then by priority."""
    return (not assignment[0], assignment[1])


def _best_assignments(
    assignments: tuple[AssignmentView, ...],
) -> tuple[dict[str, tuple[bool, int]], dict[str, tuple[bool, int]]]:
    """Return a tenant's best assignment to each pool and to each shard, as (is_default, priority)."""
    pools: dict[str, tuple[bool, int]] = {}
    shards: dict[str, tuple[bool, int]] = {}
    for entry in assignments:
        holder, name = (shards, entry.shard) if entry.shard is not None else (pools, entry.pool)
        if name is not None:
            assignment = (entry.is_default, entry.priority)
            holder[name] = min(holder.get(name, assignment), assignment, key=_sort_key)
    return pools, shards


def _by_rank(targets: Iterable[_Target]) -> list[list[_Target]]:
    ranks: dict[tuple[bool, int, int], list[_Target]] = {}
    for target in targets:
        ranks.setdefault(target.rank, []).append(target)
    return [sorted(ranks[rank], key=lambda target: target.route.queue) for rank in sorted(ranks)]


def route(tenant_id: int, required: Iterable[str], snapshot: Snapshot, avoid: Collection[str] = ()) -> Route | NoRoute:
    """Choose the queue for a job, or say why there is none; see ``pick`` for arguments and rules."""
    needed = frozenset(required)
    if found := pick(tenant_id, needed, snapshot, avoid):
        return found
    targets = [target for rank in snapshot.eligible_targets(tenant_id, needed) for target in rank]
    return _busy(needed, targets) if targets else _no_eligible_shard(tenant_id, needed, snapshot)


def pick(tenant_id: int, needed: frozenset[str], snapshot: Snapshot, avoid: Collection[str] = ()) -> Route | None:
    """Choose the queue for a job; None when it cannot be sent now.

    Among the queues whose shards have the capabilities, that the tenant may use and that have a free slot:
    the default assignment first, then by assignment priority, then the least over-qualified class, then
    the least loaded.

    Args:
        tenant_id: the tenant of the job.
        needed: capability slugs.
        snapshot: read once a round; not changed.
        avoid: names of shards on which the job failed before; any other shard is preferred.
    """
    ranks = snapshot.eligible_targets(tenant_id, needed)
    if avoid and (other := _pick_avoiding(ranks, avoid)):
        return other
    for targets in ranks:
        best, max_share = None, 0.0
        for target in targets:
            # Read the attribute directly: most targets are classes, and method calls would take most of the time.
            share = target.group.share if target.shard is None else target.free() / target.slots
            # Targets are sorted by queue name, so that ties always resolve to the same one.
            if share > max_share:
                best, max_share = target, share
        if best is not None:
            return best.route
    return None


def _pick_avoiding(ranks: list[list[_Target]], avoid: Collection[str]) -> Route | None:
    """Return a queue that no avoided shard consumes: of a class, or of one shard in a class with an avoided one."""
    for targets in ranks:
        for target in targets:
            members = [shard for shard in target.shards if shard.name not in avoid]
            if target.free() <= 0 or not members:
                continue
            if len(members) == len(target.shards):
                return target.route
            best = max(members, key=lambda shard: (target.group.own_free[shard.own_queue], shard.name))
            if target.group.own_free[best.own_queue] > 0:
                return Route(best.own_queue, target.group.name)
    return None


def eligible_shards(tenant_id: int, required: Iterable[str], snapshot: Snapshot) -> tuple[RoutableShard, ...]:
    """Return the shards that the tenant may use and that have the capabilities, busy or not."""
    ranks = snapshot.eligible_targets(tenant_id, frozenset(required))
    found = {shard.name: shard for targets in ranks for target in targets for shard in target.shards}
    return tuple(found.values())


def _no_eligible_shard(tenant_id: int, needed: frozenset[str], snapshot: Snapshot) -> NoRoute:
    usable = eligible_shards(tenant_id, (), snapshot)
    have = frozenset[str]().union(*(shard.capabilities for shard in usable))
    missing = sorted(needed - have)
    if not usable:
        return NoRoute("no_shard", "This tenant has no shard that it may use; ask an operator to assign one.", False)
    if missing:
        reason = f"No shard of this tenant has {_list(missing)}; its shards have {', '.join(sorted(have))}."
    else:
        reason = f"No single shard of this tenant has all of {_list(sorted(needed))}."
    return NoRoute("capability_missing", reason, False)


def _busy(needed: frozenset[str], targets: list[_Target]) -> NoRoute:
    shards = sorted({shard.name: shard for target in targets for shard in target.shards}.items())
    unavailable = [(name, shard) for name, shard in shards if shard.unhealthy is not None]
    phrases = [f"{name} {shard.unhealthy}" for name, shard in unavailable[:_MAX_NAMES]]
    if len(unavailable) > _MAX_NAMES:
        phrases.append(f"and {len(unavailable) - _MAX_NAMES} more")
    if len(unavailable) == len(shards):
        if all(shard.suspended for _, shard in unavailable):
            return NoRoute("suspended", f"No shard with {_list(sorted(needed))} takes jobs now: {'; '.join(phrases)}.")
        return NoRoute("no_healthy_shard", f"No healthy shard with {_list(sorted(needed))}: {'; '.join(phrases)}.")
    busy = len(shards) - len(unavailable)
    subject = "The only healthy shard" if busy == 1 else f"All {busy} healthy shards"
    verb = "is" if busy == 1 else "are"
    more = f" ({'; '.join(phrases)})" if phrases else ""
    return NoRoute("class_busy", f"{subject} with {_list(sorted(needed))} {verb} busy{more}.")


def _list(names: list[str]) -> str:
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]
