"""Estimates of waiting times, read from the database once for all jobs of a page."""

from __future__ import annotations

from datetime import datetime
from functools import cached_property

from django.db.models import F

from jobs.contract import JobStatus
from jobs.dispatch import has_live_attempt, queued_jobs
from jobs.eta import SlotsView, WaitingView, estimate, remaining, typical
from jobs.models import Attempt, Job
from jobs.routing import Snapshot, fitting_shards
from jobs.snapshot import load_snapshot
from jobs.states import AttemptState
from myctobot.lib.clock import database_now

# Durations of this many of the latest jobs tell what is usual; waiting jobs past the other bound get no estimate.
_RECENT = 500
_MOST_WAITING = 2000


class Estimates:
    """Estimates as of one moment; made when the first one is asked for."""

    def wait_s(self, job: Job) -> int | None:
        """In how many seconds the job may start; None when nobody can say, or before the first round."""
        if job.waiting_code == "new":
            return None
        found = self._found.get(job.pk)
        return None if found is None else round(found)

    @cached_property
    def _found(self) -> dict[int, float]:
        now = database_now()
        snapshot = load_snapshot(now)
        usual = typical(_recent_durations())
        waiting = [
            WaitingView(job.pk, _fitting(job, snapshot), usual(tuple(job.capabilities)))
            for job in queued_jobs().order_by(has_live_attempt().desc(), "priority", "id")[:_MOST_WAITING]
        ]
        left: dict[str, list[float | None]] = {}
        for shard, capabilities, claimed_at in _running():
            left.setdefault(shard, []).append(remaining(usual(tuple(capabilities)), (now - claimed_at).total_seconds()))
        slots = {
            shard.name: SlotsView(max(0, shard.slots - shard.running), tuple(left.get(shard.name, ())))
            for shard in snapshot.shards
            if shard.unhealthy is None
        }
        return estimate(waiting, slots)


def _fitting(job: Job, snapshot: Snapshot) -> tuple[str, ...]:
    return tuple(shard.name for shard in fitting_shards(job.tenant_id, job.capabilities, snapshot))


def _recent_durations() -> list[tuple[tuple[str, ...], float]]:
    rows = (
        Attempt.objects.filter(outcome=JobStatus.COMPLETED.value)
        .order_by("-pk")
        .values_list("job__capabilities", F("ended_at") - F("claimed_at"))[:_RECENT]
    )
    return [(tuple(capabilities), took.total_seconds()) for capabilities, took in rows if took is not None]


def _running() -> list[tuple[str, list[str], datetime]]:
    rows = Attempt.objects.filter(state=AttemptState.RUNNING, shard__isnull=False, claimed_at__isnull=False)
    found = rows.values_list("shard__name", "job__capabilities", "claimed_at")
    return [(shard, capabilities, at) for shard, capabilities, at in found if at is not None]


def estimate_wait_s(job: Job) -> int | None:
    """In how many seconds a waiting job may start; None when nobody can say."""
    return Estimates().wait_s(job)
