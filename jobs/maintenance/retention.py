"""Retention: remove old logs, leaving a marker, old work, and later the jobs themselves."""

from __future__ import annotations

import time
from datetime import timedelta

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models.functions import Now

from jobs.events.truncation import drop_log
from jobs.kept_work.storage import remove_expired
from jobs.maintenance.totals import accumulate_all
from jobs.models import Job
from myctobot.lib.postgres.limits import long_statements

log = structlog.get_logger(__name__)

# A run ends after this many seconds, and the next one continues.
RUN_FOR_S = 60.0
_BATCH_SIZE = 100


def clean_up(run_for_s: float = RUN_FOR_S) -> tuple[int, int]:
    """Remove logs, jobs and kept work that are older than the settings keep them.

    Args:
        run_for_s: seconds after which no further job is started.

    Returns:
        Number of removed logs and number of removed jobs.
    """
    deadline = time.monotonic() + run_for_s
    with long_statements():
        work = remove_expired()
        # Count before anything is removed.
        accumulate_all()
        logs = _drop_old_logs(deadline) if settings.EVENT_RETENTION_DAYS else 0
        jobs = _delete_old_jobs(deadline) if settings.JOB_RETENTION_DAYS else 0
    if logs or jobs or work:
        log.info("retention.cleaned", logs=logs, jobs=jobs, work=work)
    return logs, jobs


def _drop_old_logs(deadline: float) -> int:
    old = Job.objects.filter(
        finished_at__lt=Now() - timedelta(days=settings.EVENT_RETENTION_DAYS), has_log=True
    ).order_by("finished_at")
    done = 0
    while time.monotonic() < deadline and (found := list(old.values_list("pk", flat=True)[:_BATCH_SIZE])):
        for pk in found:
            done += _drop_log(pk)
    return done


@transaction.atomic
def _drop_log(pk: int) -> int:
    job = Job.objects.select_for_update().filter(pk=pk, has_log=True).first()
    if job is None:
        return 0
    drop_log(job)
    return 1


def _delete_old_jobs(deadline: float) -> int:
    old = Job.objects.filter(finished_at__lt=Now() - timedelta(days=settings.JOB_RETENTION_DAYS)).order_by(
        "finished_at"
    )
    done = 0
    while time.monotonic() < deadline and (found := list(old.values_list("pk", flat=True)[:_BATCH_SIZE])):
        done += Job.objects.filter(pk__in=found).delete()[1].get("jobs.Job", 0)
    return done
