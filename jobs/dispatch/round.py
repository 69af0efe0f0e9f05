"""The dispatch round: PostgreSQL is the queue, the broker holds only what a free slot is about to take."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog
from django.db import connection, transaction
from django.db.models.functions import Now

from jobs import broker
from jobs.dispatch.fair_share import Flow, Order, TenantView, advance_clocks
from jobs.dispatch.queries import Candidate
from jobs.dispatch.round import queries as queue
from jobs.dispatch.routing import Route, Snapshot, needs_of, pick
from jobs.dispatch.snapshot import load_snapshot
from jobs.models.job import Attempt, Job, ShareState
from jobs.models.states import AttemptState, Hold
from myctobot.contract.jobs import JobStatus
from myctobot.lib.clock import database_now
from myctobot.tenants.models import Tenant

log = structlog.get_logger(__name__)

# The key of the advisory lock that makes rounds go one at a time; any constant does ("mctb" in ASCII).
_ROUND_LOCK = 0x6D637462
# Jobs read of a flow at first; each time more are wanted, twice as many.
_FIRST_MORE, _MOST_MORE = 8, 256
# How often the clocks of tenants are read at least, while jobs wait.
_CLOCKS_EVERY = timedelta(seconds=5)
# Jobs that a round puts aside because of their concurrency keys; the next goes on from there.
_MOST_ASIDE = 2000


@dataclass(frozen=True)
class Round:
    """What one dispatch round did."""

    sent: int


def dispatch_round() -> Round:
    """Give waiting jobs the slots that are free, in fair order, and send them.

    Any number of processes may call this at any time: an advisory lock lets them go one by one.
    """
    with broker.round_clock.round() as sent:
        done = _round()
        sent(done.sent)
        return done


def _round() -> Round:
    broker.round_begins()
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL lock_timeout = '10s'")
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_ROUND_LOCK])
        queue.walk_the_index()
        queue.release_parked()
        chosen = _choose(load_snapshot(database_now()))
        taken = queue.send(chosen)
    broker.send_all([(c.public_id, c.attempt_number + 1, where.queue) for c, where in chosen if c.pk in taken])
    return Round(len(taken))


def _choose(snapshot: Snapshot) -> list[tuple[Candidate, Route]]:
    waiting = queue.waiting_lanes()
    lanes = [lane for lane in waiting if snapshot.has_room_for(needs_of(lane))]
    now = database_now()
    state = ShareState.objects.filter(pk=1).first() or ShareState(pk=1, virtual={}, counted_at=now)
    clocks_are_new = now - state.counted_at < _CLOCKS_EVERY
    if not waiting and not clocks_are_new:
        # What the others had while nobody waited for it is held against nobody.
        ShareState.objects.update(counted_at=now)
    # While all is full the clocks are read now and then, so that an estimate knows them.
    if not lanes and (not waiting or clocks_are_new):
        return []
    flows = queue.flows_of(lanes)
    slots = slots_of_tenants(snapshot, state.counted_at)
    # All that wait, also those whose lanes have no room just now: they lose nothing to those who have slots.
    wanting = queue.waiting_tenants() | slots.shared.keys()
    tenants = load_tenants(wanting | slots.used_s.keys(), slots.every - slots.shared)
    flows = [flow for flow in flows if flow.tenant_id in tenants]
    before = {int(tenant_id): clock for tenant_id, clock in state.virtual.items()}
    ahead = advance_clocks(before, slots.used_s, tenants, wanting & tenants.keys())
    choice = _Choice(snapshot, Order(flows, tenants, dict(slots.shared), ahead), flows)
    choice.run()
    queue.hold_for_key(choice.aside)
    ShareState.objects.update_or_create(pk=1, defaults={"virtual": ahead, "counted_at": now})
    return choice.chosen


@dataclass(frozen=True)
class Slots:
    """What tenants have, or are about to have, by tenant id.

    Attributes:
        every: all their slots.
        shared: those that count for the share. What a tenant has in a pool of its own takes nothing from others.
        used_s: slot-seconds of the latter since a moment, with those of attempts that have ended.
    """

    every: Counter[int]
    shared: Counter[int]
    used_s: dict[int, float]


def slots_of_tenants(snapshot: Snapshot, since: datetime) -> Slots:
    """Read who has how many slots, and what that came to since a moment."""
    pools = (pool for rights in snapshot.assignments.values() for pool in {entry.pool for entry in rights})
    holders = Counter(pool for pool in pools if pool)
    found = Slots(Counter(), Counter(), {})
    for tenant_id, shard_class, count, used_s in queue.in_flight(since):
        is_shared = holders[shard_class.partition("@")[2]] != 1
        if count:
            found.every[tenant_id] += count
        if count and is_shared:
            found.shared[tenant_id] += count
        if is_shared:
            found.used_s[tenant_id] = found.used_s.get(tenant_id, 0.0) + used_s
    return found


def load_tenants(tenant_ids: Iterable[int], elsewhere: Counter[int] | None = None) -> dict[int, TenantView]:
    """Weights and limits of those that are active.

    Args:
        tenant_ids: of whom.
        elsewhere: slots that they have beside those that are counted; they take from the limit.
    """
    beside = elsewhere or Counter()
    rows = Tenant.objects.filter(pk__in=list(tenant_ids), is_active=True)
    return {
        pk: TenantView(weight, None if most is None else most - beside[pk])
        for pk, weight, most in rows.values_list("pk", "weight", "max_running_jobs")
    }


@dataclass
class _Choice:
    """One round's choice of jobs and queues.

    Attributes:
        chosen: what goes where.
        aside: jobs that wait for their concurrency key from now on.
    """

    snapshot: Snapshot
    order: Order[Candidate]
    flows: list[Flow[Candidate]]
    chosen: list[tuple[Candidate, Route]] = field(default_factory=list)
    aside: list[int] = field(default_factory=list)
    _refused: set[tuple[int, str]] = field(default_factory=set)
    _more: dict[int, list[Candidate]] = field(default_factory=dict)
    _asked: dict[int, int] = field(default_factory=dict)
    _holders: dict[tuple[int, str], int] = field(default_factory=dict)
    _lost_on: dict[int, set[str]] = field(default_factory=dict)

    def run(self) -> None:
        """Go on until no slot fits any job."""
        self._look_up([(flow.tenant_id, flow.head) for flow in self.flows])
        while self.snapshot.free_slots > 0 and (flow := self.order.next()):
            if (flow.tenant_id, flow.lane) in self._refused or len(self.aside) >= _MOST_ASIDE:
                self.order.drop(flow)
            elif not flow.is_read:
                self._read(flow)
            elif self._key_is_full(flow):
                self.aside.append(flow.head.pk)
                self.order.passed_over(flow)
            else:
                self._place(flow)

    def _place(self, flow: Flow[Candidate]) -> None:
        avoid = self._lost_on.get(flow.head.pk, ())
        where = pick(flow.tenant_id, needs_of(flow.lane), self.snapshot, avoid)
        if where is None:
            # Slots only become fewer within a round: what was refused once is refused to the others alike.
            self._refused.add((flow.tenant_id, flow.lane))
            self.order.drop(flow)
            return
        self.snapshot.place(where)
        self.chosen.append((flow.head, where))
        if flow.head.key:
            key = (flow.tenant_id, flow.head.key)
            self._holders[key] = self._holders.get(key, 0) + 1
        self.order.served(flow)

    def _key_is_full(self, flow: Flow[Candidate]) -> bool:
        head = flow.head
        return bool(head.key) and self._holders.get((flow.tenant_id, head.key), 0) >= head.limit

    def _read(self, flow: Flow[Candidate]) -> None:
        """Find out what is behind the flow's last head; the more often it is asked for, the more at once."""
        following = self._more.setdefault(id(flow), [])
        if not following and not self._is_over(flow):
            count = min(_MOST_MORE, 2 * self._asked.get(id(flow), _FIRST_MORE // 2))
            self._asked[id(flow)] = count
            following.extend(queue.more_of(flow, count))
            self._look_up([(flow.tenant_id, candidate) for candidate in following])
        if following:
            head = following.pop(0)
            self.order.read(flow, head, head.pk, head.waited_s)
        else:
            self.order.drop(flow)

    def _is_over(self, flow: Flow[Candidate]) -> bool:
        """Whether nothing behind the head could have a slot, so that it need not be read."""
        return not self.snapshot.has_room_for(needs_of(flow.lane))

    def _look_up(self, candidates: list[tuple[int, Candidate]]) -> None:
        keys = {(tenant_id, job.key) for tenant_id, job in candidates if job.key} - self._holders.keys()
        self._holders.update(dict.fromkeys(keys, 0))
        self._holders.update(queue.count_key_holders(keys))
        if tried := [job.pk for _, job in candidates if job.attempt_number]:
            self._lost_on.update(queue.lost_on(tried))


def request_round() -> None:
    """Ask for a dispatch round once the present transaction is committed."""
    transaction.on_commit(broker.request_round, robust=True)


def burn(attempt: Attempt, state: str, *, code: str, message: str) -> bool:
    """End a live attempt that no runner will end; its number can never be used again.

    Returns:
        False when somebody else ended it first, which is normal.
    """
    burnt = Attempt.objects.filter(pk=attempt.pk, state=attempt.state, ended_at=None).update(
        state=state, ended_at=Now(), error_code=code, error_message=message, gateway_token_hash=None
    )
    if burnt and attempt.state == AttemptState.SENT:
        # Where it was in the line, the job is again.
        Job.objects.filter(
            pk=attempt.job_id, status=JobStatus.QUEUED, hold=Hold.SENT, attempt_number=attempt.number
        ).update(hold=Hold.NONE, waiting_code=code, waiting_reason=message)
    return bool(burnt)
