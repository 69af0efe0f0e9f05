"""Placement: a round's choice of jobs and queues."""

from __future__ import annotations

from dataclasses import dataclass, field

from jobs.dispatch import concurrency_keys, queries
from jobs.dispatch.fair_share import Flow, Order
from jobs.dispatch.queries import Candidate
from jobs.dispatch.routing import Route, Snapshot, pick
from jobs.models.lanes import needs_of

# Jobs that are read ahead of a flow: the first number, doubled each time up to the second.
_FIRST_PAGE, _MAX_PAGE = 8, 256


# Maximum number of jobs that one round holds back for their concurrency keys; the next round continues.
MAX_BLOCKED = 2000


@dataclass
class Placement:
    """Choice of jobs and queues in one round.

    Attributes:
        chosen: the jobs with their routes.
        blocked_on_key: jobs that have to wait for their concurrency key.
    """

    snapshot: Snapshot
    order: Order[Candidate]
    flows: list[Flow[Candidate]]
    chosen: list[tuple[Candidate, Route]] = field(default_factory=list)
    blocked_on_key: list[int] = field(default_factory=list)
    _refused: set[tuple[int, str]] = field(default_factory=set)
    _read_ahead: dict[int, list[Candidate]] = field(default_factory=dict)
    _page_sizes: dict[int, int] = field(default_factory=dict)
    _holders: dict[tuple[int, str], int] = field(default_factory=dict)
    _failed_on: dict[int, set[str]] = field(default_factory=dict)

    def run(self) -> None:
        """Place jobs until no free slot fits any job."""
        self._load_constraints([(flow.tenant_id, flow.head) for flow in self.flows])
        while self.snapshot.free_slots > 0 and (flow := self.order.next()):
            if (flow.tenant_id, flow.lane) in self._refused or len(self.blocked_on_key) >= MAX_BLOCKED:
                self.order.drop(flow)
            elif not flow.is_read:
                self._read_head(flow)
            elif self._key_is_full(flow):
                self.blocked_on_key.append(flow.head.pk)
                self.order.skip_head(flow)
            else:
                self._place(flow)

    def _place(self, flow: Flow[Candidate]) -> None:
        avoid = self._failed_on.get(flow.head.pk, ())
        where = pick(flow.tenant_id, needs_of(flow.lane), self.snapshot, avoid)
        if where is None:
            # Capacity only decreases within a round, so all further jobs of this lane would be refused as well.
            self._refused.add((flow.tenant_id, flow.lane))
            self.order.drop(flow)
            return
        self.snapshot.place(where)
        self.chosen.append((flow.head, where))
        if flow.head.key:
            key = (flow.tenant_id, flow.head.key)
            self._holders[key] = self._holders.get(key, 0) + 1
        self.order.mark_dispatched(flow)

    def _key_is_full(self, flow: Flow[Candidate]) -> bool:
        head = flow.head
        return bool(head.key) and self._holders.get((flow.tenant_id, head.key), 0) >= head.limit

    def _read_head(self, flow: Flow[Candidate]) -> None:
        """Set the next head of a flow; read twice as many jobs ahead each time."""
        following = self._read_ahead.setdefault(id(flow), [])
        if not following and self._has_capacity(flow):
            count = min(_MAX_PAGE, 2 * self._page_sizes.get(id(flow), _FIRST_PAGE // 2))
            self._page_sizes[id(flow)] = count
            following.extend(queries.next_candidates(flow, count))
            self._load_constraints([(flow.tenant_id, candidate) for candidate in following])
        if following:
            head = following.pop(0)
            self.order.set_head(flow, head, head.pk, head.waited_s)
        else:
            self.order.drop(flow)

    def _has_capacity(self, flow: Flow[Candidate]) -> bool:
        return self.snapshot.has_capacity_for(needs_of(flow.lane))

    def _load_constraints(self, candidates: list[tuple[int, Candidate]]) -> None:
        """Read the key holders and the failed shards of jobs."""
        keys = {(tenant_id, job.key) for tenant_id, job in candidates if job.key} - self._holders.keys()
        self._holders.update(dict.fromkeys(keys, 0))
        self._holders.update(concurrency_keys.count_key_holders(keys))
        if tried := [job.pk for _, job in candidates if job.attempt_number]:
            self._failed_on.update(queries.failed_shards(tried))
