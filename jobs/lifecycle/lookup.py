"""Find a job of a tenant by its public id."""

from __future__ import annotations

from django.db.models import QuerySet

from jobs.errors import UnknownJob
from jobs.models import Job
from myctobot.tenants.models import Tenant


def jobs_called(tenant: Tenant, public_id: str) -> QuerySet[Job]:
    """Return the tenant's job with this id, or none; the id comes from a URL and may be any text."""
    # PostgreSQL's text type cannot hold NUL.
    return Job.objects.filter(tenant=tenant, public_id=public_id) if "\x00" not in public_id else Job.objects.none()


def find_job(tenant: Tenant, public_id: str) -> Job:
    """Return the tenant's job with this id.

    Raises:
        UnknownJob: no job has the id, or the job belongs to another tenant.
    """
    job = jobs_called(tenant, public_id).first()
    if job is None:
        raise UnknownJob
    return job
