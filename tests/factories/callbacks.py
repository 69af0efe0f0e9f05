"""Many callbacks at once, stored as their jobs' ends would store them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from django.db.models.functions import Now

from jobs.callbacks.models import Callback
from jobs.callbacks.outbox import host_of
from jobs.models import Job
from myctobot.tenants.models import Tenant


def make_callbacks(tenant: Tenant, urls: Sequence[str], *, overdue_s: float = 1) -> list[Callback]:
    """Create a cancelled job and its due callback for each URL."""
    facts = {"task": {}, "capabilities": ["git"], "timeout_s": 60, "max_turns": 1, "status": "cancelled"}
    jobs = Job.objects.bulk_create(Job(tenant=tenant, callback_url=url, **facts) for url in urls)
    callbacks = Callback.objects.bulk_create(
        Callback(job=job, tenant=tenant, host=host_of(job.callback_url), kind="job.cancelled", body="{}")
        for job in jobs
    )
    rows = Callback.objects.filter(pk__in=[callback.pk for callback in callbacks])
    rows.update(next_try_at=Now() - timedelta(seconds=overdue_s))
    return callbacks
