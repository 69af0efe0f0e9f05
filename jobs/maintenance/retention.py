"""What is old goes: first a job's log, with a mark in its place, later the job itself."""

from __future__ import annotations

import time
from datetime import timedelta

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models.functions import Now

from jobs.events.truncation import drop_all
from jobs.maintenance.totals import fold_all
from jobs.models.job import Job

log = structlog.get_logger(__name__)

# A run ends after this many seconds, wherever it is: the next one goes on.
RUN_FOR_S = 60.0
_AT_ONCE = 100


def clean_up(run_for_s: float = RUN_FOR_S) -> tuple[int, int]:
    """Remove logs and jobs that ended longer ago than the settings keep them.

    Args:
        run_for_s: seconds after which no further job is begun.

    Returns:
        How many logs and how many jobs were removed.
    """
    deadline = time.monotonic() + run_for_s
    # What goes has been counted.
    fold_all()
    logs = _drop_old_logs(deadline) if settings.EVENT_RETENTION_DAYS else 0
    jobs = _delete_old_jobs(deadline) if settings.JOB_RETENTION_DAYS else 0
    if logs or jobs:
        log.info("retention.cleaned", logs=logs, jobs=jobs)
    return logs, jobs


def _drop_old_logs(deadline: float) -> int:
    old = Job.objects.filter(
        finished_at__lt=Now() - timedelta(days=settings.EVENT_RETENTION_DAYS), has_log=True
    ).order_by("finished_at")
    done = 0
    while time.monotonic() < deadline and (found := list(old.values_list("pk", flat=True)[:_AT_ONCE])):
        for pk in found:
            done += _drop_log(pk)
    return done


@transaction.atomic
def _drop_log(pk: int) -> int:
    job = Job.objects.select_for_update().filter(pk=pk, has_log=True).first()
    if job is None:
        return 0
    drop_all(job)
    return 1


def _delete_old_jobs(deadline: float) -> int:
    old = Job.objects.filter(finished_at__lt=Now() - timedelta(days=settings.JOB_RETENTION_DAYS)).order_by(
        "finished_at"
    )
    done = 0
    while time.monotonic() < deadline and (found := list(old.values_list("pk", flat=True)[:_AT_ONCE])):
        done += Job.objects.filter(pk__in=found).delete()[1].get("jobs.Job", 0)
    return done
