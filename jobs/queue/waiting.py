"""Why a job waits, and for how long still: looked up when somebody asks, so that it is never old.

Nobody writes reasons while jobs wait. A hundred thousand rows would have to be written anew whenever the last slot is
taken. What is stored is what happened to one job alone: that it was sent, or lost, or that nobody claimed it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Collection
from dataclasses import dataclass

from django.db.models import Q

from jobs.dispatch.routing import NoRoute, route
from jobs.models.job import Job, Priority
from jobs.models.states import Hold
from jobs.queue.estimates import Line
from myctobot.contract.jobs import JobStatus
from myctobot.tenants.models import Tenant


@dataclass(frozen=True)
class Waiting:
    """Why a queued job waits.

    Attributes:
        code: for programs; docs/jobs.md lists them.
        reason: a sentence for people.
        estimated_wait_s: until it may start; None when nobody can say, or nobody asked.
    """

    code: str
    reason: str
    estimated_wait_s: int | None = None


class Waits:
    """Reasons and estimates for the jobs of one page, all as of the same moment."""

    def __init__(self) -> None:
        self._line = Line()
        self._holders: dict[tuple[int, str], list[str]] = {}
        self._newcomers: dict[tuple[int, str, int], Waiting] = {}

    def expect(self, jobs: Collection[Job]) -> None:
        """Read what many jobs need in one go; each will be asked for soon."""
        self._line.expect(jobs)
        held = [job for job in jobs if job.hold == Hold.KEY]
        if held:
            self._holders |= {(job.tenant_id, job.concurrency_key): [] for job in held} | key_holders(held)

    def of(self, job: Job, *, estimate: bool = False) -> Waiting | None:
        """Say why a job waits; None when it does not.

        Args:
            job: queued or not.
            estimate: whether to say for how long too, which costs a look at all that waits.
        """
        if job.status != JobStatus.QUEUED:
            return None
        code, reason = self._why(job)
        wait_s = self._line.wait_s(job) if estimate else None
        return Waiting(code, reason, None if wait_s is None else round(wait_s))

    def of_new(self, job: Job) -> Waiting:
        """Say why a job waits that was stored just now, and for how long: it stands behind all others of its flow."""
        if job.hold == Hold.NONE:
            # Of those that come in a burst all but the first are told the same.
            flow = (job.tenant_id, job.lane, job.priority)
            if flow not in self._newcomers:
                self._newcomers[flow] = self._of_newcomer(job.tenant_id, job.capabilities, job.priority)
            return self._newcomers[flow]
        code, reason = self._why(job)
        wait_s = self._line.newcomer_wait_s(job.tenant_id, job.capabilities, job.priority)
        if wait_s is not None and job.hold == Hold.TIME:
            wait_s = max(wait_s, (job.ready_at - self._line.now).total_seconds())
        return Waiting(code, reason, None if wait_s is None else round(wait_s))

    def newcomer(self, tenant: Tenant, capabilities: list[str], priority: int = Priority.NORMAL) -> Waiting:
        """Say what would hold up a job that is submitted now, and for how long."""
        return self._of_newcomer(tenant.pk, capabilities, priority)

    def _of_newcomer(self, tenant_id: int, capabilities: list[str], priority: int) -> Waiting:
        code, reason = self._in_line(tenant_id, capabilities)
        wait_s = self._line.newcomer_wait_s(tenant_id, capabilities, priority)
        return Waiting(code, reason, None if wait_s is None else round(wait_s))

    def _why(self, job: Job) -> tuple[str, str]:
        if job.hold == Hold.SENT:
            return job.waiting_code, job.waiting_reason
        if job.hold == Hold.TIME:
            if job.waiting_code != "parked":
                return job.waiting_code, job.waiting_reason
            return "parked", f"It is not to start before {job.ready_at:%Y-%m-%d %H:%M:%S} UTC."
        if job.hold == Hold.KEY:
            return "key_busy", self._behind(job)
        code, reason = self._in_line(job.tenant_id, job.capabilities)
        # What happened to it before goes with what it waits for now.
        return code, f"{reason} {job.waiting_reason}".strip()

    def _behind(self, job: Job) -> str:
        which = (job.tenant_id, job.concurrency_key)
        if which not in self._holders:
            self.expect([job])
        names = ", ".join(self._holders[which][:3])
        most = "one job" if job.concurrency_limit == 1 else f"{job.concurrency_limit} jobs"
        return (
            f"At most {most} with the concurrency key '{job.concurrency_key}' may run at once: {names or 'none'} now."
        )

    def _in_line(self, tenant_id: int, capabilities: list[str]) -> tuple[str, str]:
        tenant = self._line.tenant(tenant_id)
        if tenant is None:
            return "tenant_inactive", "The tenant is switched off; an operator can switch it on again."
        running = self._line.slots.get(tenant_id, 0)
        if tenant.max_running is not None and running >= tenant.max_running:
            return "tenant_limit", f"The tenant is at its limit of {tenant.max_running} running jobs."
        where = route(tenant_id, capabilities, self._line.snapshot)
        if isinstance(where, NoRoute):
            return where.code, where.reason
        return "next", "A slot is free; the next dispatch round, within a second, may send it."


# A burst of submits asks for one look in two seconds at all that waits, not for one each.
_LATELY_S = 2.0


class Lately:
    """The latest look, shared by all threads of this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waits: Waits | None = None
        self._until = 0.0

    def of_new(self, job: Job) -> Waiting:
        """Why a job waits that was stored just now, as of at most two seconds ago."""
        # The parts of a line are read when they are first wanted, so one thread at a time looks.
        with self._lock:
            if self._waits is None or time.monotonic() >= self._until:
                self._waits, self._until = Waits(), time.monotonic() + _LATELY_S
            return self._waits.of_new(job)

    def forget(self) -> None:
        """The next one looks anew."""
        self._until = 0.0


lately = Lately()


def key_holders(jobs: Collection[Job]) -> dict[tuple[int, str], list[str]]:
    """Ids of the jobs that have a slot with the concurrency keys of some, oldest first, by tenant and key."""
    with_slots = Q(status=JobStatus.RUNNING) | Q(status=JobStatus.QUEUED, hold=Hold.SENT)
    tenants, keys = {job.tenant_id for job in jobs}, {job.concurrency_key for job in jobs}
    same = Job.objects.filter(with_slots, tenant_id__in=tenants, concurrency_key__in=keys).order_by("pk")
    found: dict[tuple[int, str], list[str]] = {}
    for tenant_id, key, public_id in same.values_list("tenant_id", "concurrency_key", "public_id"):
        found.setdefault((tenant_id, key), []).append(public_id)
    return found


def waiting_of(job: Job, *, estimate: bool = True) -> Waiting | None:
    """Why one job waits, and for how long still; None when it does not wait."""
    return Waits().of(job, estimate=estimate)
