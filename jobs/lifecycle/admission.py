"""How many jobs of a tenant may wait, and that no more of them do."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from django.conf import settings
from django.db import transaction

from jobs.errors import TooManyWaiting
from jobs.models.job import Job
from myctobot.lib.sql import Term, insert, one_row
from myctobot.tenants.models import Tenant

# The first key of the advisory locks that submits of one tenant take, one after the other ("subm" in ASCII).
_SUBMIT_LOCK: Final = 0x7375626D
# From so far below its limit a tenant's submits look closer. More cannot come unseen: what a process's count leaves
# uncounted, from each of a few dozen processes, and what is just being stored.
_MARGIN: Final = 1000
_UNCOUNTED: Final = 20
# To count takes as long as there are jobs that wait; a submit should not.
_COUNT_IS_GOOD_S: Final = 1.0
_MOST_TENANTS: Final = 1000
_COUNT = "SELECT count(*) FROM (SELECT 1 FROM jobs_job WHERE tenant_id = %s AND status = 'queued' LIMIT %s) AS waiting"


def store(job: Job, tenant: Tenant, terms: Mapping[str, Term], only_if: Term | None) -> bool:
    """Store a new job, if its tenant may have one more that waits.

    Args:
        job: without what the terms say.
        tenant: whose.
        terms, only_if: see ``rows.insert``.

    Returns:
        False when the condition does not hold, and nothing was stored.

    Raises:
        TooManyWaiting: it may not.
    """
    most = settings.MAX_WAITING_JOBS if tenant.max_waiting_jobs is None else tenant.max_waiting_jobs
    if _ample.has_room(tenant.pk, most):
        # However many others do the same at this moment, the limit is out of reach.
        return insert(job, terms, only_if)
    with transaction.atomic():
        # A statement of its own: what others added while this waited is seen by the next one alone.
        one_row("SELECT pg_advisory_xact_lock(%s, %s)", [_SUBMIT_LOCK, tenant.pk % 2**31])
        waiting = count_waiting(tenant.pk, most)
        if waiting >= most:
            raise TooManyWaiting(
                f"The tenant has {waiting} waiting jobs, as many as it may; try again when some started."
            )
        return insert(job, terms, only_if)


def count_waiting(tenant_id: int, most: int) -> int:
    """How many of a tenant's jobs wait, counted up to ``most``."""
    row = one_row(_COUNT, [tenant_id, most])
    return int(row[0]) if row else 0


@dataclass
class _Counted:
    most: int
    left: int
    until: float


class Ample:
    """Tells when a tenant is far below its limit, without counting each time.

    Args:
        count: how many of a tenant's jobs wait, counted up to a number.
        clock: seconds that only grow.
    """

    def __init__(
        self, count: Callable[[int, int], int] = count_waiting, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._count, self._clock = count, clock
        self._lock = threading.Lock()
        self._counted: dict[int, _Counted] = {}

    def has_room(self, tenant_id: int, most: int) -> bool:
        """Whether one more is certain to be within the limit.

        Args:
            tenant_id: whose.
            most: jobs that may wait.
        """
        if most <= _MARGIN:
            return False
        with self._lock:
            counted = self._counted.get(tenant_id)
            if counted and counted.most == most and counted.left > 0 and self._clock() < counted.until:
                counted.left -= 1
                return True
        now, waiting = self._clock(), self._count(tenant_id, most)
        with self._lock:
            if len(self._counted) >= _MOST_TENANTS:
                self._counted.clear()
            left = _UNCOUNTED if waiting + _MARGIN < most else 0
            self._counted[tenant_id] = _Counted(most, left, now + _COUNT_IS_GOOD_S)
        return left > 0

    def forget(self) -> None:
        """Count anew."""
        self._counted.clear()


_ample = Ample()
forget = _ample.forget
