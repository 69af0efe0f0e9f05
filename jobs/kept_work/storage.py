"""Storage of agents' work: encrypted parts, bounded by job and by tenant, until they expire."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from datetime import timedelta
from itertools import chain
from typing import Any, Final

from django.conf import settings
from django.db import connection, transaction
from django.db.models import F, Q, Sum
from django.db.models.functions import Now

from jobs.errors import WorkTooLarge
from jobs.models import Job, KeptWork, KeptWorkPart
from myctobot.contract.jobs import TERMINAL, JobStatus
from myctobot.contract.work import WorkFile, WorkManifest
from myctobot.tenants.secrets import sealer

MB: Final = 2**20
_BATCH_SIZE: Final = 20


def manifest_binding(work: KeptWork) -> str:
    return f"work:{work.pk}"


def part_binding(work_pk: int, file: str, number: int) -> str:
    """Return the binding of a part, so that no part can take the place of another one."""
    return f"work:{work_pk}:{file}:{number}"


@transaction.atomic
def store_part(job: Job, attempt: int, file: str, number: int, data: bytes) -> KeptWork:
    """Store a part of a running attempt's work; a repeated part replaces the first.

    The caller has checked that the attempt is the job's present one, and holds the job's row.

    Raises:
        WorkTooLarge: the work of a job, or the work of the tenant's live jobs, has no room for the part.
    """
    _lock_tenant(job.tenant_id)
    work, _ = KeptWork.objects.get_or_create(
        job_id=job.pk,
        attempt_number=attempt,
        defaults={"tenant_id": job.tenant_id, "expires_at": Now() + timedelta(days=settings.WORK_RETENTION_DAYS)},
    )
    old = KeptWorkPart.objects.filter(work=work, file=file, number=number).first()
    grows = len(data) - (old.bytes if old else 0)
    if work.is_complete or work.stored_bytes + grows > settings.WORK_MAX_MB * MB:
        raise WorkTooLarge(f"The work of one job may have {settings.WORK_MAX_MB} MB.")
    _make_room(job, work, grows)
    sealed = sealer().seal({"data": base64.b64encode(data).decode()}, bound_to=part_binding(work.pk, file, number))
    KeptWorkPart.objects.update_or_create(
        work=work, file=file, number=number, defaults={"bytes": len(data), "sealed": sealed}
    )
    KeptWork.objects.filter(pk=work.pk).update(stored_bytes=F("stored_bytes") + grows)
    return work


def complete(job: Job, work: KeptWork, manifest: WorkManifest) -> None:
    """Make stored parts the job's kept work, in place of that of an earlier attempt.

    Raises:
        WorkTooLarge: parts are missing or too many.
    """
    for file in WorkFile:
        described = manifest["files"].get(file.value)
        stored = work.parts.filter(file=file.value).aggregate(bytes=Sum("bytes"))["bytes"] or 0
        if stored != (described["bytes"] if described else 0):
            raise WorkTooLarge(f"{file.value} has {stored} stored bytes, and the manifest names another number.")
    work.is_complete, work.is_ready, work.head = True, manifest["ready"], manifest["head"]
    work.bundle_bytes = _bytes_of(manifest, WorkFile.BUNDLE)
    work.patch_bytes = _bytes_of(manifest, WorkFile.PATCH)
    work.sealed = sealer().seal(manifest, bound_to=manifest_binding(work))
    work.save(update_fields=["is_complete", "is_ready", "head", "bundle_bytes", "patch_bytes", "sealed"])
    KeptWork.objects.filter(job_id=job.pk).exclude(pk=work.pk).delete()
    Job.objects.filter(pk=job.pk).update(work=work if work.is_ready else None)


def read_manifest(work: KeptWork) -> WorkManifest:
    """Return the manifest of complete work.

    Raises:
        CannotUnseal: the key that sealed it is gone.
    """
    found: Any = sealer().unseal(work.sealed or "", bound_to=manifest_binding(work))
    manifest: WorkManifest = found
    return manifest


def read_part(work_pk: int, file: str, number: int) -> bytes | None:
    """Return a part of a file, or None if there is no such part.

    Raises:
        CannotUnseal: the key that sealed it is gone.
    """
    part = KeptWorkPart.objects.filter(work_id=work_pk, file=file, number=number).only("sealed").first()
    if part is None:
        return None
    values = sealer().unseal(part.sealed, bound_to=part_binding(work_pk, file, number))
    return base64.b64decode(values["data"])


def read_file(work_pk: int, file: str) -> Iterator[bytes]:
    """Yield the parts of a file in their order, one at a time."""
    number = 0
    while (data := read_part(work_pk, file, number)) is not None:
        yield data
        number += 1


def work_of(job: Job) -> KeptWork | None:
    """Return the work that is kept with a job, or that it pushes; None if there is none or it has expired."""
    own = Q(job_id=job.pk) | Q(pk=job.work_id)
    return KeptWork.objects.filter(own, is_complete=True, expires_at__gt=Now()).order_by("-id").first()


def remove_expired() -> int:
    """Remove work whose time is over, except that of live jobs, and return how much was removed."""
    old = KeptWork.objects.filter(expires_at__lt=Now()).filter(_of_ended_jobs()).order_by("expires_at")
    removed = 0
    while found := list(old.values_list("pk", flat=True)[:_BATCH_SIZE]):
        removed += KeptWork.objects.filter(pk__in=found).delete()[1].get("jobs.KeptWork", 0)
    return removed


def _bytes_of(manifest: WorkManifest, file: WorkFile) -> int:
    described = manifest["files"].get(file.value)
    return described["bytes"] if described else 0


def _lock_tenant(tenant_pk: int) -> None:
    """Let one call at a time change a tenant's kept work, so that the sum of all stays in its bound."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext('kept work'), %s)", [tenant_pk])


def _make_room(job: Job, work: KeptWork, grows: int) -> None:
    """Remove the tenant's oldest work of ended jobs until a part fits; that of completed jobs goes first."""
    of_tenant = KeptWork.objects.filter(tenant_id=job.tenant_id)
    limit = settings.WORK_TENANT_MAX_MB * MB
    stored = (of_tenant.aggregate(bytes=Sum("stored_bytes"))["bytes"] or 0) + grows
    if stored <= limit:
        return
    old = of_tenant.exclude(pk=work.pk).filter(_of_ended_jobs()).defer("sealed")
    is_completed = Q(job__status=JobStatus.COMPLETED)
    ordered = (old.filter(is_completed).order_by("id"), old.exclude(is_completed).order_by("id"))
    for one in chain.from_iterable(works.iterator(chunk_size=_BATCH_SIZE) for works in ordered):
        if stored <= limit:
            return
        stored -= one.stored_bytes
        one.delete()
    if stored > limit:
        raise WorkTooLarge(f"The work of a tenant's jobs may have {settings.WORK_TENANT_MAX_MB} MB in all.")


def _of_ended_jobs() -> Q:
    """Return the condition for work that no live job needs."""
    live = Job.objects.exclude(status__in=[status.value for status in TERMINAL])
    return Q(job__status__in=[status.value for status in TERMINAL]) & ~Q(
        pk__in=live.filter(work__isnull=False).values("work")
    )
