"""Retention: removes old samples, state changes and alerts in bounded batches."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Final

import structlog
from django.conf import settings
from django.db.models import Model, QuerySet
from django.db.models.functions import Now

from myctobot.lib.postgres.limits import long_statements
from shards.monitoring.models import Alert, ShardSample, StateChange

log = structlog.get_logger(__name__)

# A run ends after this time; the next run continues.
RUN_FOR_S: Final = 30.0
BATCH_SIZE: Final = 5000
# State changes and alerts are few, so they are kept for a quarter.
HISTORY: Final = timedelta(days=90)


def clean_up(run_for_s: float = RUN_FOR_S) -> int:
    """Remove rows that are older than their retention, and return their number.

    Args:
        run_for_s: seconds after which no further batch starts.
    """
    deadline = time.monotonic() + run_for_s
    done = 0
    with long_statements():
        if settings.SHARD_SAMPLE_RETENTION_DAYS:
            kept = timedelta(days=settings.SHARD_SAMPLE_RETENTION_DAYS)
            done += _remove(ShardSample.objects.filter(at__lt=Now() - kept).order_by("at"), deadline)
        done += _remove(StateChange.objects.filter(at__lt=Now() - HISTORY).order_by("at"), deadline)
        # Deleting a grouped alert deletes its parts.
        done += _remove(Alert.objects.filter(ended_at__lt=Now() - HISTORY, part_of=None).order_by("pk"), deadline)
    if done:
        log.info("history.cleaned", rows=done)
    return done


def _remove(old: QuerySet[Model], deadline: float) -> int:
    done = 0
    while time.monotonic() < deadline and (keys := list(old.values_list("pk", flat=True)[:BATCH_SIZE])):
        done += old.model._default_manager.filter(pk__in=keys).delete()[0]
    return done
