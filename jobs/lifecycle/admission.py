"""Limit on the waiting jobs of a tenant."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from django.conf import settings
from django.db import transaction

from jobs.errors import QueueLimitReached
from jobs.models import Job
from myctobot.lib.sql import SqlFragment, fetch_one, insert
from myctobot.lib.ttl_cache import TtlCache
from myctobot.tenants.models import Tenant

# The first key of the advisory locks that make the submits of one tenant wait for each other ("subm" in ASCII).
_SUBMIT_LOCK: Final = 0x7375626D
# A tenant is far below its limit with this many free places. A few dozen processes that submit at once use fewer.
_MARGIN: Final = 1000
_SUBMITS_PER_COUNT: Final = 20
# A count takes time in proportion to the waiting jobs, so a submit must not count each time.
_COUNT_TTL_S: Final = 1.0
_MAX_TENANTS: Final = 1000
_COUNT = "SELECT count(*) FROM (SELECT 1 FROM jobs_job WHERE tenant_id = %s AND status = 'queued' LIMIT %s) AS waiting"


def insert_within_limit(
    job: Job,
    tenant: Tenant,
    computed: Mapping[str, SqlFragment],
    only_if: SqlFragment | None,
    waiting_limit: WaitingLimit | None = None,
) -> bool:
    """Store a new job if its tenant may have one more waiting job.

    Args:
        job: not stored yet.
        tenant: owner of the job.
        computed: column values that PostgreSQL computes; see ``sql.insert``.
        only_if: condition of the insert; see ``sql.insert``.
        waiting_limit: lets a tenant that is far below its limit skip the exact count; None always counts.

    Returns:
        False if the condition does not hold; nothing was stored.

    Raises:
        QueueLimitReached: the tenant has as many waiting jobs as it may have.
    """
    maximum = settings.MAX_WAITING_JOBS if tenant.max_waiting_jobs is None else tenant.max_waiting_jobs
    if waiting_limit is not None and waiting_limit.has_headroom(tenant.pk, maximum):
        return insert(job, computed, only_if)
    with transaction.atomic():
        # The lock is a statement of its own, because only the next statement sees what others stored during the wait.
        fetch_one("SELECT pg_advisory_xact_lock(%s, %s)", [_SUBMIT_LOCK, tenant.pk % 2**31])
        waiting = count_waiting(tenant.pk, maximum)
        if waiting >= maximum:
            raise QueueLimitReached(
                f"The tenant has {waiting} waiting jobs, which is its maximum; try again when some have started."
            )
        return insert(job, computed, only_if)


def count_waiting(tenant_id: int, maximum: int) -> int:
    """Count the waiting jobs of a tenant, up to ``maximum``."""
    row = fetch_one(_COUNT, [tenant_id, maximum])
    return int(row[0]) if row else 0


@dataclass
class _Headroom:
    maximum: int
    submits_left: int


class WaitingLimit:
    """Tell if a tenant is far below its limit, with one count for many submits.

    Args:
        count: returns the number of waiting jobs of a tenant, up to a maximum.
        clock: returns monotonic seconds.
    """

    def __init__(
        self, count: Callable[[int, int], int] = count_waiting, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._count, self._lock = count, threading.Lock()
        # Each tenant has one entry, so no tenant can displace the entries of many others.
        self._tenants: TtlCache[int, _Headroom] = TtlCache(_MAX_TENANTS, _COUNT_TTL_S, clock)

    def has_headroom(self, tenant_id: int, maximum: int) -> bool:
        """Return true if one more job is certain to stay within the limit.

        Args:
            tenant_id: primary key of the tenant.
            maximum: number of jobs that may wait.
        """
        if maximum <= _MARGIN:
            return False
        with self._lock:
            known = self._tenants.get(tenant_id)
            if known and known.maximum == maximum and known.submits_left > 0:
                known.submits_left -= 1
                return True
        is_far = self._count(tenant_id, maximum) + _MARGIN < maximum
        self._tenants.put(tenant_id, _Headroom(maximum, _SUBMITS_PER_COUNT if is_far else 0))
        return is_far
