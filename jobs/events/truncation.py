"""Bound on a job's log: the middle is dropped and a marker takes its place, never the beginning or the end."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from django.conf import settings

from jobs.events.encoding import dropped_marker
from jobs.models import EventBatch, Job
from jobs.models.transition_table import DROP_LOG
from myctobot.lib.sql import execute

# Only a lowered bound makes more than one batch superfluous; the next batches drop the rest.
_MAX_ROWS = 200
# Assignments that count a batch of ``%(bytes)s`` which ends with ``%(last_seq)s``. The first half of the bound is the
# beginning of the log.
COUNT_BATCH_SQL: Final = """
    log_bytes = log_bytes + %(bytes)s,
    log_head_seq = CASE WHEN log_bytes + %(bytes)s <= %(log_bound)s / 2 THEN %(last_seq)s ELSE log_head_seq END
"""
FITS_SQL: Final = "log_bytes + %(bytes)s <= %(log_bound)s"
_DROP_LOG = f"UPDATE jobs_job SET {DROP_LOG.assignments} WHERE id = %s"  # noqa: S608  # only our own constants


def fits(log_bytes: int, size: int) -> bool:
    """Tell whether a batch fits into a log without dropping anything, as ``FITS_SQL`` does."""
    return log_bytes + size <= int(settings.JOB_LOG_MAX_BYTES)


def bound_values() -> dict[str, Any]:
    """Return the value for ``%(log_bound)s``."""
    return {"log_bound": settings.JOB_LOG_MAX_BYTES}


@dataclass(frozen=True)
class LogSize:
    """Size of a job's log, as its row states it after a batch.

    Attributes:
        stored: bytes.
        head_seq: last number of the beginning, which is kept.
    """

    stored: int
    head_seq: int

    @property
    def excess(self) -> int:
        """Bytes beyond the bound."""
        return max(0, self.stored - int(settings.JOB_LOG_MAX_BYTES))


def truncate_middle(job_pk: int, size: LogSize, newest_seq: int) -> None:
    """Drop the oldest batches after the beginning until the log is within its bound; the job's row is locked."""
    middle = EventBatch.objects.filter(job_id=job_pk, first_seq__gt=size.head_seq, last_seq__lt=newest_seq)
    # The marker of earlier drops follows the beginning directly, and its bytes are not counted.
    marker = middle.order_by("first_seq").filter(bytes=0).first()
    freed, last_seq, dropped = 0, 0, []
    rows = middle.order_by("first_seq").filter(bytes__gt=0)
    for row in rows.values_list("pk", "last_seq", "bytes", "attempt_number")[:_MAX_ROWS]:
        if freed >= size.excess:
            break
        dropped.append(row)
        freed, last_seq = freed + row[2], row[1]
    if not dropped:
        return
    before = json.loads(marker.lines)["data"]["bytes"] if marker else 0
    EventBatch.objects.filter(pk__in=[row[0] for row in dropped]).delete()
    attempt = dropped[-1][3]
    _put_marker(job_pk, size.head_seq + 1, last_seq, size=before + freed, attempt=attempt, reason="bound")
    Job.objects.filter(pk=job_pk).update(log_bytes=size.stored - freed)


def _put_marker(job_pk: int, first_seq: int, last_seq: int, *, size: int, attempt: int, reason: str) -> None:
    line = dropped_marker(first_seq, last_seq, datetime.now(UTC).isoformat(), size=size, reason=reason)
    EventBatch.objects.update_or_create(
        job_id=job_pk,
        first_seq=first_seq,
        defaults={"last_seq": last_seq, "lines": line, "bytes": 0, "attempt_number": attempt},
    )


def drop_log(job: Job) -> None:
    """Drop the whole log of an old job, whose row is locked; a marker states that there was one."""
    size = job.log_bytes
    EventBatch.objects.filter(job=job).delete()
    if job.next_seq > 1:
        _put_marker(job.pk, 1, job.next_seq - 1, size=size, attempt=job.attempt_number, reason="retention")
    execute(_DROP_LOG, job.pk)
