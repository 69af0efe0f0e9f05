"""Dispatch round. PostgreSQL is the queue; the broker only holds messages that a free slot is about to take."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import structlog
from django.db import connection, transaction

from jobs import broker
from jobs.dispatch import concurrency_keys, queries, wakeup
from jobs.dispatch.fair_share import Order, advance_clocks
from jobs.dispatch.placement import Placement
from jobs.dispatch.queries import Candidate
from jobs.dispatch.round_metrics import round_clock
from jobs.dispatch.routing import Route, Snapshot
from jobs.dispatch.snapshot import load_snapshot
from jobs.dispatch.tenant_slots import load_tenants, slots_of_tenants
from jobs.models import FairShareClocks
from jobs.models.lanes import needs_of
from myctobot.lib.clock import database_now

log = structlog.get_logger(__name__)

# Key of the advisory lock that serializes rounds. Any constant works; this one is "mctb" in ASCII.
_ROUND_LOCK = 0x6D637462
# Maximum age of the tenants' clocks while jobs wait.
_CLOCKS_EVERY = timedelta(seconds=5)


@dataclass(frozen=True)
class RoundResult:
    """Result of one dispatch round."""

    sent: int


def dispatch_round() -> RoundResult:
    """Assign free slots to waiting jobs in fair order, and send the attempts.

    Any number of processes may call this at any time: an advisory lock serializes the rounds.
    """
    with round_clock.round() as report_sent:
        result = _run_round()
        report_sent(result.sent)
        return result


def _run_round() -> RoundResult:
    wakeup.mark_round_started()
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL lock_timeout = '10s'")
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_ROUND_LOCK])
        queries.use_index_scans()
        queries.release_due_jobs()
        chosen = _choose(load_snapshot(database_now()))
        taken = queries.create_attempts(chosen)
    broker.send_all([(c.public_id, c.attempt_number + 1, where.queue) for c, where in chosen if c.pk in taken])
    return RoundResult(len(taken))


def _choose(snapshot: Snapshot) -> list[tuple[Candidate, Route]]:
    waiting = queries.waiting_lanes()
    lanes = [lane for lane in waiting if snapshot.has_capacity_for(needs_of(lane))]
    now = database_now()
    state = FairShareClocks.objects.filter(pk=1).first() or FairShareClocks(pk=1, by_tenant={}, counted_at=now)
    clocks_are_new = now - state.counted_at < _CLOCKS_EVERY
    if not waiting and not clocks_are_new:
        # No job waited for these slots, so their use does not count against the tenants that had them.
        FairShareClocks.objects.update(counted_at=now)
    # Advance the clocks now and then while all slots are busy, because the wait estimates read them.
    if not lanes and (not waiting or clocks_are_new):
        return []
    flows = queries.load_flows(lanes)
    slots = slots_of_tenants(snapshot, state.counted_at)
    # Include tenants whose lanes have no capacity now, so that they lose nothing to tenants that have slots.
    active = queries.waiting_tenants() | slots.shared.keys()
    tenants = load_tenants(active | slots.used_s.keys(), slots.every - slots.shared)
    flows = [flow for flow in flows if flow.tenant_id in tenants]
    before = {int(tenant_id): clock for tenant_id, clock in state.by_tenant.items()}
    ahead = advance_clocks(before, slots.used_s, tenants, active & tenants.keys())
    placement = Placement(snapshot, Order(flows, tenants, dict(slots.shared), ahead), flows)
    placement.run()
    concurrency_keys.hold_for_key(placement.blocked_on_key)
    FairShareClocks.objects.update_or_create(pk=1, defaults={"by_tenant": ahead, "counted_at": now})
    return placement.chosen
