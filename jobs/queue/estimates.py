"""What waits and what runs, read once: the line as one look at it shows it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any, NamedTuple

from django.db import connection
from django.db.models import F

from jobs.dispatch.fair_share import TenantView
from jobs.dispatch.round import load_tenants, slots_of_tenants
from jobs.dispatch.routing import Snapshot, lane_of, needs_of
from jobs.dispatch.snapshot import load_snapshot
from jobs.models.job import Attempt, Job, ShareState
from jobs.models.states import Hold
from jobs.queue.eta import FlowView, Forecast, Lengths, RunningView, arrival_rates, typical
from myctobot.contract.jobs import JobStatus
from myctobot.lib.clock import database_now

# So many of the latest jobs tell what is usual: how long they take, and how many come.
_RECENT = 500
# A job further back than this in its own flow is reckoned to stand here.
_MOST_POSITION = 20_000

_COUNTS = """
    SELECT lane, priority, tenant_id, count(*), min(ready_at) FROM jobs_job
    WHERE status = 'queued' AND hold = '' GROUP BY 1, 2, 3
"""
_POSITIONS = f"""
    SELECT id, (
        SELECT count(*) FROM (
            SELECT 1 FROM jobs_job AS other WHERE other.status = 'queued' AND other.hold = '' AND other.lane = job.lane
                AND other.priority = job.priority AND other.tenant_id = job.tenant_id AND other.id < job.id
            LIMIT {_MOST_POSITION}
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


class Line:
    """The line as of one moment; each part is read when it is first wanted."""

    @cached_property
    def now(self) -> datetime:
        return database_now()

    @cached_property
    def snapshot(self) -> Snapshot:
        return load_snapshot(self.now)

    @cached_property
    def slots(self) -> dict[int, int]:
        """Slots of each tenant that count for its limit."""
        return dict(slots_of_tenants(self.snapshot, self.now).every)

    @cached_property
    def _tenants(self) -> dict[int, TenantView | None]:
        return {}

    def tenant(self, tenant_id: int) -> TenantView | None:
        """Weight and limit; None when the tenant is switched off."""
        return self._tenants_of([tenant_id])[tenant_id]

    def _tenants_of(self, tenant_ids: Iterable[int]) -> dict[int, TenantView | None]:
        """Every tenant read so far, these among them; None is one that is switched off."""
        unknown = set(tenant_ids) - self._tenants.keys()
        if unknown:
            views = load_tenants(unknown)
            self._tenants.update({pk: views.get(pk) for pk in unknown})
        return self._tenants

    def wait_s(self, job: Job) -> float | None:
        """In how many seconds a queued job may start; None when nobody can say."""
        if job.hold == Hold.SENT:
            return 0.0
        if job.hold == Hold.KEY:
            return None
        if job.hold == Hold.TIME:
            later_s = max(0.0, (job.ready_at - self.now).total_seconds())
            wait_s = self.newcomer_wait_s(job.tenant_id, job.capabilities, job.priority)
            return None if wait_s is None else max(later_s, wait_s)
        return self._start_s(job.tenant_id, job.lane, job.priority, self._position(job))

    def newcomer_wait_s(self, tenant_id: int, capabilities: list[str], priority: int) -> float | None:
        """In how many seconds a job may start that is submitted now."""
        lane = lane_of(capabilities)
        same = (flow.jobs for flow in self._waiting if flow[:3] == (lane, priority, tenant_id))
        return self._start_s(tenant_id, lane, priority, next(same, 0), newcomer=True)

    def expect(self, jobs: Iterable[Job]) -> None:
        """Read where many jobs stand in one go; each will be asked for soon."""
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
            self.expect([job])
        return self._positions.get(job.pk, 0)

    def _start_s(
        self, tenant_id: int, lane: str, priority: int, position: int, *, newcomer: bool = False
    ) -> float | None:
        key = (lane, priority, tenant_id)
        classes = self._classes(tenant_id, lane)
        extra = key if newcomer else None
        if (classes, extra) not in self._forecasts:
            self._forecasts[classes, extra] = self._forecast(classes, extra)
        return self._forecasts[classes, extra].start_s(key, position)

    @cached_property
    def _forecasts(self) -> dict[Any, Forecast]:
        return {}

    def _forecast(self, classes: frozenset[str], extra: tuple[str, int, int] | None) -> Forecast:
        """Play what competes for the slots of these classes, and one job more of a newcomer's flow."""
        waiting = {flow[:3]: flow for flow in self._waiting}
        rates, coming_for_s = self._rates
        for key in [*rates, *([extra] if extra else [])]:
            waiting.setdefault(key, _Flow(*key, 0, self.now))
        if extra is not None:
            waiting[extra] = waiting[extra]._replace(jobs=waiting[extra].jobs + 1)
        flows = [
            self._view(flow, rates.get(key, 0.0))
            for key, flow in waiting.items()
            if classes & self._classes(flow.tenant_id, flow.lane)
        ]
        taken = [self._taken(slot) for slot in self._running if slot.shard_class in classes]
        free = sum(max(0, group.free) for name, group in self.snapshot.classes.items() if name in classes)
        weights = {pk: view.weight for pk, view in self._tenants.items() if view}
        return Forecast(flows, taken, free, weights, self._clocks, coming_for_s)

    def _view(self, flow: _Flow, per_s: float) -> FlowView:
        waited_s = (self.now - flow.since).total_seconds()
        lengths = self._usual(flow.lane)
        return FlowView(flow[:3], flow.tenant_id, flow.priority, flow.jobs, lengths, waited_s, per_s)

    def _taken(self, slot: _Running) -> RunningView:
        elapsed_s = (self.now - slot.claimed_at).total_seconds() if slot.claimed_at else 0.0
        return RunningView(slot.tenant_id, self._usual(slot.lane), elapsed_s)

    def _classes(self, tenant_id: int, lane: str) -> frozenset[str]:
        """Classes with a shard that is well and that the tenant may use for a lane."""
        if (tenant_id, lane) not in self._known_classes:
            ranks = self.snapshot.fitting(tenant_id, needs_of(lane))
            groups = {target.group for targets in ranks for target in targets}
            self._known_classes[tenant_id, lane] = frozenset(group.name for group in groups if group.slots)
        return self._known_classes[tenant_id, lane]

    @cached_property
    def _known_classes(self) -> dict[tuple[int, str], frozenset[str]]:
        return {}

    @cached_property
    def _waiting(self) -> list[_Flow]:
        with connection.cursor() as cursor:
            cursor.execute(_COUNTS)
            flows = [_Flow(*row) for row in cursor.fetchall()]
        tenants = self._tenants_of(flow.tenant_id for flow in flows)
        return [flow for flow in flows if tenants[flow.tenant_id]]

    @cached_property
    def _rates(self) -> tuple[dict[tuple[str, int, int], float], float]:
        """How many jobs of each flow come in a second, and for how long that may be relied on."""
        rows = Job.objects.order_by("-pk").values_list("lane", "priority", "tenant_id", "created_at")[:_RECENT]
        latest = [((lane, priority, pk), at.timestamp()) for lane, priority, pk, at in rows]
        tenants = self._tenants_of(pk for (_, _, pk), _ in latest)
        return arrival_rates([(key, at) for key, at in latest if tenants[key[2]]], self.now.timestamp())

    @cached_property
    def _clocks(self) -> dict[int, float]:
        state = ShareState.objects.filter(pk=1).first()
        return {int(tenant_id): clock for tenant_id, clock in state.virtual.items()} if state else {}

    @cached_property
    def _running(self) -> list[_Running]:
        rows = Attempt.objects.filter(state__in=["sent", "running"])
        return [_Running(*row) for row in rows.values_list("job__tenant_id", "job__lane", "shard_class", "claimed_at")]

    @cached_property
    def _usual(self) -> Callable[[str], Lengths]:
        rows = (
            Attempt.objects.filter(outcome__in=[JobStatus.COMPLETED.value, JobStatus.FAILED.value])
            .order_by("-pk")
            .values_list("job__lane", F("ended_at") - F("claimed_at"))[:_RECENT]
        )
        return typical((lane, took.total_seconds()) for lane, took in rows if took is not None)
