"""Keeps a job's log within its bound: the middle goes, with a mark in its place, never the beginning or the end."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime

from django.conf import settings

from jobs.events.encoding import dropped_mark
from jobs.models.job import EventBatch, Job

# More than one batch has to go only where the bound was lowered; the rest goes with the next batches.
_MOST_ROWS = 200


@dataclass(frozen=True)
class LogSize:
    """What a job's row says about its log.

    Attributes:
        stored: bytes.
        head_seq: the last number of the beginning, which is kept.
        excess: bytes that are too much.
    """

    stored: int
    head_seq: int
    excess: int


def size_after(job: Job, last_seq: int, size: int) -> LogSize:
    """Count a batch that is about to be stored.

    Args:
        job: as it was before the batch.
        last_seq: the batch's last number.
        size: its bytes.
    """
    stored = job.log_bytes + size
    head_seq = last_seq if stored <= settings.JOB_LOG_MAX_BYTES // 2 else job.log_head_seq
    return LogSize(stored, head_seq, max(0, stored - settings.JOB_LOG_MAX_BYTES))


def drop_middle(job: Job, size: LogSize, newest_seq: int) -> None:
    """Drop the oldest batches behind the beginning until what is too much is gone; the job's row is locked."""
    behind = EventBatch.objects.filter(job=job, first_seq__gt=size.head_seq, last_seq__lt=newest_seq)
    # The mark of earlier drops stands right behind the beginning, and its bytes are not counted.
    mark = behind.order_by("first_seq").filter(bytes=0).first()
    freed, last_seq, doomed = 0, 0, []
    rows = behind.order_by("first_seq").filter(bytes__gt=0)
    for row in rows.values_list("pk", "last_seq", "bytes", "attempt_number")[:_MOST_ROWS]:
        if freed >= size.excess:
            break
        doomed.append(row)
        freed, last_seq = freed + row[2], row[1]
    if not doomed:
        return
    before = json.loads(mark.lines)["data"]["bytes"] if mark else 0
    EventBatch.objects.filter(pk__in=[row[0] for row in doomed]).delete()
    _put_mark(job, size.head_seq + 1, last_seq, size=before + freed, attempt=doomed[-1][3], reason="bound")
    Job.objects.filter(pk=job.pk).update(log_bytes=size.stored - freed)


def _put_mark(job: Job, first_seq: int, last_seq: int, *, size: int, attempt: int, reason: str) -> None:
    line = dropped_mark(first_seq, last_seq, datetime.now(UTC).isoformat(), size=size, reason=reason)
    EventBatch.objects.update_or_create(
        job=job,
        first_seq=first_seq,
        defaults={"last_seq": last_seq, "lines": line, "bytes": 0, "attempt_number": attempt},
    )


def drop_all(job: Job) -> None:
    """Drop the whole log of an old job, whose row is locked; the mark says that it was there."""
    size = job.log_bytes
    EventBatch.objects.filter(job=job).delete()
    if job.next_seq > 1:
        _put_mark(job, 1, job.next_seq - 1, size=size, attempt=job.attempt_number, reason="retention")
    Job.objects.filter(pk=job.pk).update(log_bytes=0, log_head_seq=0, has_log=False)
