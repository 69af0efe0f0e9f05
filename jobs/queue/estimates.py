"""Estimates of waiting times, from one reading of the waiting and the running jobs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from django.db import connection
from django.db.models import F
from django.utils.functional import cached_property

from jobs.dispatch.fair_share import TenantView
from jobs.dispatch.routing import Snapshot
from jobs.dispatch.snapshot import load_snapshot
from jobs.dispatch.tenant_slots import load_tenants, slots_of_tenants
from jobs.models import Attempt, FairShareClocks, Job
from jobs.models.lanes import lane_of, needs_of
from jobs.models.states import Hold
from jobs.queue.eta import FlowView, Lengths, MeanForecast, RunningView, arrival_rates, lengths_by_lane
from myctobot.contract.jobs import JobStatus
from myctobot.lib.clock import database_now

# Number of recent jobs from which durations and arrival rates are estimated.
_RECENT = 500
# Maximum position within a flow; jobs further back are treated as if they were there.
_MAX_POSITION = 20_000

_COUNTS = """
    SELECT lane, priority, tenant_id, count(*), min(ready_at) FROM jobs_job
    WHERE status = 'queued' AND hold = '' GROUP BY 1, 2, 3
"""
_POSITIONS = f"""
    SELECT id, (
        SELECT count(*) FROM (
            SELECT 1 FROM jobs_job AS other WHERE other.status = 'queued' AND other.hold = '' AND other.lane = job.lane
                AND other.priority = job.priority AND other.tenant_id = job.tenant_id AND other.id < job.id
            LIMIT {_MAX_POSITION}
        ) AS before
    ) FROM jobs_job AS job WHERE id = ANY(%s)
"""  # noqa: S608  # only our own constant


class _Flow(NamedTuple):
    lane: str
    priority: int
    tenant_id: int
    jobs: int
    since: datetime


@dataclass(frozen=True)
class _Running:
    tenant_id: int
    lane: str
    shard_class: str
    claimed_at: datetime | None


class QueueEstimates:
    """State of the queue at one moment; each part is read on first use."""

    @cached_property
    def now(self) -> datetime:
        return database_now()

    @cached_property
    def snapshot(self) -> Snapshot:
        return load_snapshot(self.now)

    @cached_property
    def slots(self) -> dict[int, int]:
        """Return the slots of each tenant that count for its limit."""
        return dict(slots_of_tenants(self.snapshot, self.now).every)

    @cached_property
    def _tenants(self) -> dict[int, TenantView | None]:
        return {}

    def tenant(self, tenant_id: int) -> TenantView | None:
        """Return weight and limit; None when the tenant is inactive."""
        return self._tenants_of([tenant_id])[tenant_id]

    def _tenants_of(self, tenant_ids: Iterable[int]) -> dict[int, TenantView | None]:
        """Return all tenants read so far, including the given ones; None marks an inactive tenant."""
        unknown = set(tenant_ids) - self._tenants.keys()
        if unknown:
            views = load_tenants(unknown)
            self._tenants.update({pk: views.get(pk) for pk in unknown})
        return self._tenants

    def wait_s(self, job: Job) -> float | None:
        """Return the seconds until a queued job may start; None when unknown."""
        if job.hold == Hold.DISPATCHED:
            return 0.0
        if job.hold == Hold.CONCURRENCY:
            return None
        if job.hold == Hold.DELAYED:
            later_s = max(0.0, (job.ready_at - self.now).total_seconds())
            wait_s = self.new_job_wait_s(job.tenant_id, job.capabilities, job.priority)
            return None if wait_s is None else max(later_s, wait_s)
        return self._start_s(job.tenant_id, job.lane, job.priority, self._position(job))

    def new_job_wait_s(self, tenant_id: int, capabilities: list[str], priority: int) -> float | None:
        """Return the seconds until a job may start that is submitted now; None when unknown."""
        lane = lane_of(capabilities)
        same = (flow.jobs for flow in self._waiting_flows if flow[:3] == (lane, priority, tenant_id))
        return self._start_s(tenant_id, lane, priority, next(same, 0), new_job=True)

    def prefetch(self, jobs: Iterable[Job]) -> None:
        """Read the positions of many jobs in one query."""
        ready = [job.pk for job in jobs if job.status == JobStatus.QUEUED and job.hold == Hold.NONE]
        if not ready:
            return
        with connection.cursor() as cursor:
            cursor.execute(_POSITIONS, [ready])
            self._positions.update(dict(cursor.fetchall()))

    @cached_property
    def _positions(self) -> dict[int, int]:
        return {}

    def _position(self, job: Job) -> int:
        if job.pk not in self._positions:
            self.prefetch([job])
        return self._positions.get(job.pk, 0)

    def _start_s(
        self, tenant_id: int, lane: str, priority: int, position: int, *, new_job: bool = False
    ) -> float | None:
        key = (lane, priority, tenant_id)
        classes = self._classes(tenant_id, lane)
        extra = key if new_job else None
        if (classes, extra) not in self._forecasts:
            self._forecasts[classes, extra] = self._forecast(classes, extra)
        return self._forecasts[classes, extra].start_s(key, position)

    @cached_property
    def _forecasts(self) -> dict[Any, MeanForecast]:
        return {}

    def _forecast(self, classes: frozenset[str], extra: tuple[str, int, int] | None) -> MeanForecast:
        """Simulate the flows that compete for the slots of these classes; ``extra`` names the flow of one more job."""
        waiting = {flow[:3]: flow for flow in self._waiting_flows}
        rates, arrivals_for_s = self._rates
        for key in [*rates, *([extra] if extra else [])]:
            waiting.setdefault(key, _Flow(*key, 0, self.now))
        if extra is not None:
            waiting[extra] = waiting[extra]._replace(jobs=waiting[extra].jobs + 1)
        flows = [
            self._flow_view(flow, rates.get(key, 0.0))
            for key, flow in waiting.items()
            if classes & self._classes(flow.tenant_id, flow.lane)
        ]
        taken = [self._running_view(slot) for slot in self._running if slot.shard_class in classes]
        free = sum(max(0, group.free) for name, group in self.snapshot.classes.items() if name in classes)
        weights = {pk: view.weight for pk, view in self._tenants.items() if view}
        return MeanForecast(flows, taken, free, weights, self._clocks, arrivals_for_s)

    def _flow_view(self, flow: _Flow, per_s: float) -> FlowView:
        waited_s = (self.now - flow.since).total_seconds()
        lengths = self._lengths(flow.lane)
        return FlowView(flow[:3], flow.tenant_id, flow.priority, flow.jobs, lengths, waited_s, per_s)

    def _running_view(self, slot: _Running) -> RunningView:
        elapsed_s = (self.now - slot.claimed_at).total_seconds() if slot.claimed_at else 0.0
        return RunningView(slot.tenant_id, self._lengths(slot.lane), elapsed_s)

    def _classes(self, tenant_id: int, lane: str) -> frozenset[str]:
        """Return the classes with a healthy shard that the tenant may use for a lane."""
        if (tenant_id, lane) not in self._known_classes:
            ranks = self.snapshot.eligible_targets(tenant_id, needs_of(lane))
            groups = {target.group for targets in ranks for target in targets}
            self._known_classes[tenant_id, lane] = frozenset(group.name for group in groups if group.slots)
        return self._known_classes[tenant_id, lane]

    @cached_property
    def _known_classes(self) -> dict[tuple[int, str], frozenset[str]]:
        return {}

    @cached_property
    def _waiting_flows(self) -> list[_Flow]:
        with connection.cursor() as cursor:
            cursor.execute(_COUNTS)
            flows = [_Flow(*row) for row in cursor.fetchall()]
        tenants = self._tenants_of(flow.tenant_id for flow in flows)
        return [flow for flow in flows if tenants[flow.tenant_id]]

    @cached_property
    def _rates(self) -> tuple[dict[tuple[str, int, int], float], float]:
        """Return the arrival rate of each flow per second, and the seconds for which the rates are valid."""
        rows = Job.objects.order_by("-pk").values_list("lane", "priority", "tenant_id", "created_at")[:_RECENT]
        latest = [((lane, priority, pk), at.timestamp()) for lane, priority, pk, at in rows]
        tenants = self._tenants_of(pk for (_, _, pk), _ in latest)
        return arrival_rates([(key, at) for key, at in latest if tenants[key[2]]], self.now.timestamp())

    @cached_property
    def _clocks(self) -> dict[int, float]:
        state = FairShareClocks.objects.filter(pk=1).first()
        return {int(tenant_id): clock for tenant_id, clock in state.by_tenant.items()} if state else {}

    @cached_property
    def _running(self) -> list[_Running]:
        # In a fixed order, so that the same queue has the same estimate.
        rows = Attempt.objects.filter(state__in=["sent", "running"]).order_by("pk")
        return [_Running(*row) for row in rows.values_list("job__tenant_id", "job__lane", "shard_class", "claimed_at")]

    @cached_property
    def _lengths(self) -> Callable[[str], Lengths]:
        rows = (
            Attempt.objects.filter(outcome__in=[JobStatus.COMPLETED.value, JobStatus.FAILED.value])
            .order_by("-pk")
            .values_list("job__lane", F("ended_at") - F("claimed_at"))[:_RECENT]
        )
        return lengths_by_lane((lane, took.total_seconds()) for lane, took in rows if took is not None)
