"""Routing is queue selection: a pure decision over a snapshot of shards, assignments and load."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

# An unassigned tenant's use of a shared shard ranks after every assignment.
UNASSIGNED_PRIORITY = 1_000_000
# A sentence for people names so many shards at most.
_MOST_NAMES = 5


def lane_of(capabilities: Iterable[str]) -> str:
    """The lane in which jobs wait that ask for these capabilities."""
    return "+".join(sorted(set(capabilities)))


def needs_of(lane: str) -> frozenset[str]:
    """The capabilities that jobs of a lane ask for."""
    return frozenset(lane.split("+"))


@dataclass(frozen=True)
class ShardView:
    """A shard as the router sees it.

    Attributes:
        unhealthy: a few words that say why it takes no job now; None when it does.
        closed: whether that is because an operator drains it, or paused its class or pool.
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
    closed: bool = False

    @property
    def free(self) -> int:
        """Slots without a runner; what is on its way to it is not known here."""
        return 0 if self.unhealthy is not None else max(0, self.slots - self.running)


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


class _Class:
    """The shards of one class, and how many of their slots are free."""

    def __init__(self, members: list[ShardView], sent: Counter[str]) -> None:
        first = members[0]
        self.name, self.queue, self.pool = first.shard_class, first.class_queue, first.pool
        self.capabilities = first.capabilities
        self.shards = tuple(members)
        self.slots = sum(shard.slots for shard in members if shard.unhealthy is None)
        # Of what goes to one shard's own queue, and of the class: a message takes a slot from both.
        self.own = {shard.own_queue: shard.free - sent[shard.own_queue] for shard in members}
        on_the_way = sent[self.queue] + sum(sent[shard.own_queue] for shard in members)
        self.free = sum(shard.free for shard in members) - on_the_way
        # The part of its slots that is free, kept at hand: decisions compare it all the time.
        self.share = self.free / self.slots if self.slots else 0.0

    @property
    def well(self) -> int:
        """How many of its shards take jobs."""
        return sum(shard.unhealthy is None for shard in self.shards)

    @property
    def running(self) -> int:
        """How many jobs its shards run."""
        return sum(shard.running for shard in self.shards)

    def change(self, slots: int) -> None:
        """Have so many more free slots."""
        self.free += slots
        self.share = self.free / self.slots if self.slots else 0.0


class _Target:
    """A queue that a tenant may use: a class's, or one shard's own.

    Args:
        rank: what decides before the load does; the lower goes first.
        shard: None for the queue of the whole class.
    """

    __slots__ = ("group", "rank", "route", "shard", "shards", "slots")

    def __init__(self, group: _Class, rank: tuple[bool, int, int], shard: ShardView | None = None) -> None:
        self.group, self.rank, self.shard = group, rank, shard
        self.shards = (shard,) if shard else group.shards
        self.slots = max(1, shard.slots if shard else group.slots)
        # Made once: a decision takes less time than a new object.
        self.route = Route(shard.own_queue if shard else group.queue, group.name)

    def free(self) -> int:
        return min(self.group.own[self.shard.own_queue], self.group.free) if self.shard else self.group.free


class Snapshot:
    """Shards, rights and load, read once a round; ``place`` counts capacity down while jobs are placed.

    Args:
        shards: all that are not deleted.
        assignments: by tenant id.
        sent: attempts that are in a queue and not yet claimed, by queue.
    """

    def __init__(
        self,
        shards: Iterable[ShardView],
        assignments: dict[int, tuple[AssignmentView, ...]] | None = None,
        sent: Counter[str] | None = None,
    ) -> None:
        self.shards = tuple(shards)
        self.assignments = assignments or {}
        on_the_way = sent or Counter()
        members: dict[str, list[ShardView]] = {}
        for shard in self.shards:
            members.setdefault(shard.shard_class, []).append(shard)
        self.classes = {name: _Class(found, on_the_way) for name, found in members.items()}
        self._by_name = {shard.name: shard for shard in self.shards}
        self.free_slots = sum(max(0, group.free) for group in self.classes.values())
        # Most tenants have the same rights, most jobs the same needs: what fits is found once for all of them.
        self._fitting: dict[tuple[int | tuple[AssignmentView, ...], frozenset[str]], list[list[_Target]]] = {}

    def place(self, route: Route) -> None:
        group = self.classes[route.shard_class]
        group.change(-1)
        self.free_slots -= 1
        if route.queue in group.own:
            group.own[route.queue] -= 1

    def has_room_for(self, required: Collection[str]) -> bool:
        """Whether any shard at all with these capabilities has a free slot, whosever it is."""
        return any(group.free > 0 and group.capabilities.issuperset(required) for group in self.classes.values())

    def free(self, shard: ShardView) -> int:
        """Slots of a shard that nothing has taken, nor is on its way to."""
        group = self.classes[shard.shard_class]
        return max(0, min(group.own[shard.own_queue], group.free))

    def fitting(self, tenant_id: int, needed: frozenset[str]) -> list[list[_Target]]:
        """The queues for these needs that the tenant may use, free or not: by rank, those of one rank together."""
        found = self._fitting.get((tenant_id, needed))
        if found is None:
            rights = self.assignments.get(tenant_id, ())
            found = self._fitting.get((rights, needed))
            if found is None:
                found = self._fitting[rights, needed] = _by_rank(self._targets(rights, needed))
            self._fitting[tenant_id, needed] = found
        return found

    def _targets(self, rights: tuple[AssignmentView, ...], needed: frozenset[str]) -> Iterator[_Target]:
        to_pools, to_shards = _best_rights(rights)
        special: dict[str, dict[str, ShardView]] = {}
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
                # The same right to each of them is one to the class.
                base, named = min(to_shards[next(iter(named))], base or _NO_RIGHT, key=_better), {}
            for name, shard in named.items():
                right = to_shards[name]
                if base is None or _better(right) < _better(base):
                    yield _Target(group, (not right[0], right[1], extra), shard)
            if base is not None:
                yield _Target(group, (not base[0], base[1], extra))


_NO_RIGHT = (False, 2 * UNASSIGNED_PRIORITY)


def _better(right: tuple[bool, int]) -> tuple[bool, int]:
    """Sorts rights: the default first, then by priority."""
    return (not right[0], right[1])


def _best_rights(
    rights: tuple[AssignmentView, ...],
) -> tuple[dict[str, tuple[bool, int]], dict[str, tuple[bool, int]]]:
    """A tenant's best right to each pool and to each shard, as (is_default, priority)."""
    pools: dict[str, tuple[bool, int]] = {}
    shards: dict[str, tuple[bool, int]] = {}
    for entry in rights:
        holder, name = (shards, entry.shard) if entry.shard is not None else (pools, entry.pool)
        if name is not None:
            right = (entry.is_default, entry.priority)
            holder[name] = min(holder.get(name, right), right, key=_better)
    return pools, shards


def _by_rank(targets: Iterable[_Target]) -> list[list[_Target]]:
    ranks: dict[tuple[bool, int, int], list[_Target]] = {}
    for target in targets:
        ranks.setdefault(target.rank, []).append(target)
    return [sorted(ranks[rank], key=lambda target: target.route.queue) for rank in sorted(ranks)]


def route(tenant_id: int, required: Iterable[str], snapshot: Snapshot, avoid: Collection[str] = ()) -> Route | NoRoute:
    """Pick the queue for a job, or say why there is none; arguments and rules as of ``pick``."""
    needed = frozenset(required)
    if found := pick(tenant_id, needed, snapshot, avoid):
        return found
    targets = [target for rank in snapshot.fitting(tenant_id, needed) for target in rank]
    return _all_taken(needed, targets) if targets else _nobody(tenant_id, needed, snapshot)


def pick(tenant_id: int, needed: frozenset[str], snapshot: Snapshot, avoid: Collection[str] = ()) -> Route | None:
    """Pick the queue for a job; None when it goes nowhere now.

    Among the queues whose shards have the capabilities, that the tenant may use and that have a free slot:
    the default assignment first, then by assignment priority, then the least over-qualified class, then
    the least loaded.

    Args:
        tenant_id: whose job it is.
        needed: capability slugs.
        snapshot: read once a round; not changed.
        avoid: names of shards that lost this job before: another one is preferred, wherever there is one.
    """
    ranks = snapshot.fitting(tenant_id, needed)
    if avoid and (other := _elsewhere(ranks, avoid)):
        return other
    for targets in ranks:
        best, most = None, 0.0
        for target in targets:
            # Most targets are classes; a call for each would take most of a decision's time.
            share = target.group.share if target.shard is None else target.free() / target.slots
            # Of equal ones the first, which is so by name.
            if share > most:
                best, most = target, share
        if best is not None:
            return best.route
    return None


def _elsewhere(ranks: list[list[_Target]], avoid: Collection[str]) -> Route | None:
    """A queue that no shard to be avoided consumes: of a class with one in it, another member's own."""
    for targets in ranks:
        for target in targets:
            members = [shard for shard in target.shards if shard.name not in avoid]
            if target.free() <= 0 or not members:
                continue
            if len(members) == len(target.shards):
                return target.route
            best = max(members, key=lambda shard: (target.group.own[shard.own_queue], shard.name))
            if target.group.own[best.own_queue] > 0:
                return Route(best.own_queue, target.group.name)
    return None


def fitting_shards(tenant_id: int, required: Iterable[str], snapshot: Snapshot) -> tuple[ShardView, ...]:
    """Shards that the tenant may use and that have what is required, whether or not they could take a job now."""
    ranks = snapshot.fitting(tenant_id, frozenset(required))
    found = {shard.name: shard for targets in ranks for target in targets for shard in target.shards}
    return tuple(found.values())


def _nobody(tenant_id: int, needed: frozenset[str], snapshot: Snapshot) -> NoRoute:
    usable = fitting_shards(tenant_id, (), snapshot)
    have = frozenset[str]().union(*(shard.capabilities for shard in usable))
    missing = sorted(needed - have)
    if not usable:
        return NoRoute("no_shard", "This tenant has no shard that it may use; ask an operator to assign one.", False)
    if missing:
        reason = f"No shard of this tenant has {_list(missing)}; its shards have {', '.join(sorted(have))}."
    else:
        reason = f"No single shard of this tenant has all of {_list(sorted(needed))}."
    return NoRoute("capability_missing", reason, False)


def _all_taken(needed: frozenset[str], targets: list[_Target]) -> NoRoute:
    shards = sorted({shard.name: shard for target in targets for shard in target.shards}.items())
    sick = [(name, shard) for name, shard in shards if shard.unhealthy is not None]
    phrases = [f"{name} {shard.unhealthy}" for name, shard in sick[:_MOST_NAMES]]
    if len(sick) > _MOST_NAMES:
        phrases.append(f"and {len(sick) - _MOST_NAMES} more")
    if len(sick) == len(shards):
        if all(shard.closed for _, shard in sick):
            return NoRoute("closed", f"No shard with {_list(sorted(needed))} takes jobs now: {'; '.join(phrases)}.")
        return NoRoute("no_healthy_shard", f"No healthy shard with {_list(sorted(needed))}: {'; '.join(phrases)}.")
    busy = len(shards) - len(sick)
    subject = "The only healthy shard" if busy == 1 else f"All {busy} healthy shards"
    verb = "is" if busy == 1 else "are"
    more = f" ({'; '.join(phrases)})" if phrases else ""
    return NoRoute("class_busy", f"{subject} with {_list(sorted(needed))} {verb} busy{more}.")


def _list(names: list[str]) -> str:
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]
