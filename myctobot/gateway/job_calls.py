"""Bounds on the calls of one job: how many at the same time, how many in total, and the memory of their bodies.

The numbers are those of this process. They end with the attempt, so a new attempt starts at zero.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from myctobot.gateway.errors import CallQuotaReached, JobCallsExceeded, Overloaded
from myctobot.gateway.grants import AttemptKey, GatewayGrant, attempt_key
from myctobot.gateway.requests import MAX_BODY_BYTES

# One largest body of one job, four of one tenant, and eight of all tenants may be in memory.
MAX_JOB_BYTES: Final = MAX_BODY_BYTES
MAX_TENANT_BYTES: Final = 4 * MAX_BODY_BYTES
MAX_TOTAL_BYTES: Final = 8 * MAX_BODY_BYTES


@dataclass(frozen=True)
class JobCallLimits:
    """Limits on the calls of one attempt.

    Attributes:
        concurrent: calls at the same time.
        total: calls from the begin to the end of the attempt.
    """

    concurrent: int = 16
    total: int = 5000


class JobCalls:
    """Counters of the open and the past calls of each attempt."""

    def __init__(self, limits: JobCallLimits) -> None:
        self._limits = limits
        self._open: Counter[AttemptKey] = Counter()
        self._past: Counter[AttemptKey] = Counter()
        self._bodies = _BodyMemory()

    @contextmanager
    def enter(self, grant: GatewayGrant) -> Iterator[BodyAllowance]:
        """Count one call, and release its place and the memory of its body at the end of the context.

        Raises:
            JobCallsExceeded: the job has too many open calls.
            CallQuotaReached: the attempt has made all its calls.
        """
        key = attempt_key(grant)
        if self._past[key] >= self._limits.total:
            raise CallQuotaReached(
                f"This attempt of the job has made {self._limits.total} calls, which is the maximum "
                "(GATEWAY_MAX_CALLS_PER_ATTEMPT)."
            )
        if self._open[key] >= self._limits.concurrent:
            raise JobCallsExceeded(
                f"This job has {self._limits.concurrent} open calls, which is the maximum "
                "(GATEWAY_MAX_CONCURRENT_CALLS). Wait for one of them to end."
            )
        self._open[key] += 1
        self._past[key] += 1
        allowance = BodyAllowance(self._bodies, grant.job_id, grant.tenant_id)
        try:
            yield allowance
        finally:
            allowance.release()
            self._open[key] -= 1
            if not self._open[key]:
                del self._open[key]

    def attempts(self) -> frozenset[AttemptKey]:
        """Return the attempts that have counters."""
        return frozenset(self._past)

    def forget(self, ended: Iterable[AttemptKey]) -> None:
        """Drop the counters of attempts whose tokens are invalid for ever."""
        for key in ended:
            self._past.pop(key, None)


class _BodyMemory:
    """Bytes of bodies in memory: by job, by tenant and in total."""

    def __init__(self) -> None:
        self.jobs: Counter[str] = Counter()
        self.tenants: Counter[int] = Counter()
        self.total = 0

    def add(self, job_id: str, tenant_id: int, count: int) -> None:
        self.total += count
        self.jobs[job_id] += count
        self.tenants[tenant_id] += count
        if not self.jobs[job_id]:
            del self.jobs[job_id]
        if not self.tenants[tenant_id]:
            del self.tenants[tenant_id]


class BodyAllowance:
    """Memory that the body of one call takes."""

    def __init__(self, memory: _BodyMemory, job_id: str, tenant_id: int) -> None:
        self._memory, self._job_id, self._tenant_id = memory, job_id, tenant_id
        self._taken = 0

    def take(self, count: int) -> None:
        """Reserve ``count`` bytes more, before they are kept.

        Raises:
            JobCallsExceeded: the bodies of the job's open calls are too large together.
            Overloaded: the bodies of the tenant or of all tenants are.
        """
        memory = self._memory
        if memory.jobs[self._job_id] + count > MAX_JOB_BYTES:
            raise JobCallsExceeded(
                f"body: the bodies of this job's open calls have more than {MAX_JOB_BYTES} bytes together. "
                "Wait for one of them to end."
            )
        if memory.tenants[self._tenant_id] + count > MAX_TENANT_BYTES or memory.total + count > MAX_TOTAL_BYTES:
            raise Overloaded("The bodies of open calls are too large together. Try again in a moment.")
        memory.add(self._job_id, self._tenant_id, count)
        self._taken += count

    def release(self) -> None:
        self._memory.add(self._job_id, self._tenant_id, -self._taken)
        self._taken = 0
