"""Reason why a job waits and an estimate of the remaining wait, computed on request.

Reasons are not stored while jobs wait, because taking the last free slot would change a hundred thousand rows. Only
events of a single job are stored: that it was sent or lost, or that its attempt was not claimed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

from django.db.models import Q

from jobs.dispatch.routing import NoRoute, route
from jobs.models import Job, Priority
from jobs.models.states import Hold
from jobs.queue.estimates import QueueEstimates
from myctobot.contract.jobs import JobStatus
from myctobot.lib.ttl_cache import CachedValue
from myctobot.tenants.models import Tenant


@dataclass(frozen=True)
class WaitStatus:
    """Reason why a queued job waits.

    Attributes:
        code: for programs; docs/jobs.md lists them.
        reason: a sentence for people.
        estimated_wait_s: seconds until it may start; None when unknown or not requested.
    """

    code: str
    reason: str
    estimated_wait_s: int | None = None


class WaitExplainer:
    """Reasons and estimates for several jobs, all at the same moment."""

    def __init__(self) -> None:
        self._estimates = QueueEstimates()
        self._holders: dict[tuple[int, str], list[str]] = {}
        self._new_jobs: dict[tuple[int, str, int], WaitStatus] = {}

    def prefetch(self, jobs: Collection[Job]) -> None:
        """Read the data of many jobs in few queries, before ``explain`` is called for each."""
        self._estimates.prefetch(jobs)
        held = [job for job in jobs if job.hold == Hold.CONCURRENCY]
        if held:
            self._holders |= {(job.tenant_id, job.concurrency_key): [] for job in held} | key_holders(held)

    def explain(self, job: Job, *, estimate: bool = False) -> WaitStatus | None:
        """Return why a job waits; None when it does not wait.

        Args:
            job: queued or not.
            estimate: also estimate the remaining wait, which reads all waiting jobs.
        """
        if job.status != JobStatus.QUEUED:
            return None
        code, reason = self._reason(job)
        wait_s = self._estimates.wait_s(job) if estimate else None
        return WaitStatus(code, reason, None if wait_s is None else round(wait_s))

    def explain_stored(self, job: Job) -> WaitStatus:
        """Return why a job waits that was stored just now, with an estimate: it is the last job of its flow."""
        if job.hold == Hold.NONE:
            # The jobs of a burst share the answer, because most of them belong to one flow.
            flow = (job.tenant_id, job.lane, job.priority)
            if flow not in self._new_jobs:
                self._new_jobs[flow] = self._new_job(job.tenant_id, job.capabilities, job.priority)
            return self._new_jobs[flow]
        code, reason = self._reason(job)
        wait_s = self._estimates.new_job_wait_s(job.tenant_id, job.capabilities, job.priority)
        if wait_s is not None and job.hold == Hold.DELAYED:
            wait_s = max(wait_s, (job.ready_at - self._estimates.now).total_seconds())
        return WaitStatus(code, reason, None if wait_s is None else round(wait_s))

    def new_job(self, tenant: Tenant, capabilities: list[str], priority: int = Priority.NORMAL) -> WaitStatus:
        """Return why a job would wait that is submitted now, with an estimate."""
        return self._new_job(tenant.pk, capabilities, priority)

    def _new_job(self, tenant_id: int, capabilities: list[str], priority: int) -> WaitStatus:
        code, reason = self._routing_reason(tenant_id, capabilities)
        wait_s = self._estimates.new_job_wait_s(tenant_id, capabilities, priority)
        return WaitStatus(code, reason, None if wait_s is None else round(wait_s))

    def _reason(self, job: Job) -> tuple[str, str]:
        if job.hold == Hold.DISPATCHED:
            return job.waiting_code, job.waiting_reason
        if job.hold == Hold.DELAYED:
            if job.waiting_code != "parked":
                return job.waiting_code, job.waiting_reason
            return "parked", f"The job starts at {job.ready_at:%Y-%m-%d %H:%M:%S} UTC at the earliest."
        if job.hold == Hold.CONCURRENCY:
            return "key_busy", self._key_reason(job)
        code, reason = self._routing_reason(job.tenant_id, job.capabilities)
        # Append the stored reason, which says what happened to the job before.
        return code, f"{reason} {job.waiting_reason}".strip()

    def _key_reason(self, job: Job) -> str:
        key = (job.tenant_id, job.concurrency_key)
        if key not in self._holders:
            self.prefetch([job])
        names = ", ".join(self._holders[key][:3])
        limit = "one job" if job.concurrency_limit == 1 else f"{job.concurrency_limit} jobs"
        return (
            f"At most {limit} with the concurrency key '{job.concurrency_key}' may run at once: {names or 'none'} now."
        )

    def _routing_reason(self, tenant_id: int, capabilities: list[str]) -> tuple[str, str]:
        tenant = self._estimates.tenant(tenant_id)
        if tenant is None:
            return "tenant_inactive", "The tenant is switched off; an operator can switch it on again."
        running = self._estimates.slots.get(tenant_id, 0)
        if tenant.max_running is not None and running >= tenant.max_running:
            return "tenant_limit", f"The tenant is at its limit of {tenant.max_running} running jobs."
        decision = route(tenant_id, capabilities, self._estimates.snapshot)
        if isinstance(decision, NoRoute):
            return decision.code, decision.reason
        return "next", "A slot is free; the next dispatch round, within a second, may send it."


# A burst of submits shares one reading of the queue, because each reading covers all waiting jobs.
_CACHED_FOR_S = 2.0


class CachedWaitExplainer:
    """Explain the waits of new jobs with one ``WaitExplainer`` for two seconds, so that a burst reads the queue once.

    Args:
        clock: returns monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._lock = threading.Lock()
        self._explainer = CachedValue(WaitExplainer, _CACHED_FOR_S, clock)

    def explain_stored(self, job: Job) -> WaitStatus:
        """Return why a job waits that was just stored, as of at most two seconds ago."""
        # An explainer reads its parts on first use and is not thread-safe.
        with self._lock:
            return self._explainer().explain_stored(job)


def key_holders(jobs: Collection[Job]) -> dict[tuple[int, str], list[str]]:
    """Return the ids of the jobs that hold the concurrency keys of some jobs, oldest first, by tenant and key."""
    with_slots = Q(status=JobStatus.RUNNING) | Q(status=JobStatus.QUEUED, hold=Hold.DISPATCHED)
    tenants, keys = {job.tenant_id for job in jobs}, {job.concurrency_key for job in jobs}
    same = Job.objects.filter(with_slots, tenant_id__in=tenants, concurrency_key__in=keys).order_by("pk")
    found: dict[tuple[int, str], list[str]] = {}
    for tenant_id, key, public_id in same.values_list("tenant_id", "concurrency_key", "public_id"):
        found.setdefault((tenant_id, key), []).append(public_id)
    return found


def wait_status(job: Job, *, estimate: bool = True) -> WaitStatus | None:
    """Return why one job waits; None when it does not wait."""
    return WaitExplainer().explain(job, estimate=estimate)
