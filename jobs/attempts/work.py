"""Kept work in the calls of runners: the present attempt stores its own, and reads what it has to push."""

from __future__ import annotations

import base64

from django.db import transaction

from jobs.attempts.fencing import FencedAttempt, load_fenced_attempt
from jobs.errors import Fenced, UnknownWork
from jobs.kept_work.storage import complete, read_part, store_part
from jobs.models import Job, KeptWork
from myctobot.contract.jobs import JobStatus
from myctobot.contract.work import (
    ReadWorkAnswer,
    ReadWorkRequest,
    StoreWorkAnswer,
    StoreWorkRequest,
)
from myctobot.lib.crypto import CannotUnseal


def store_work(key_hash: str, job_id: str, claim_token: str, request: StoreWorkRequest, data: bytes) -> StoreWorkAnswer:
    """Store a part of the work of a running attempt; with its last part, the work is complete.

    Args:
        key_hash: digest of the caller's shard key.
        job_id: public id of the job, which comes from a URL and may be any text.
        claim_token: secret of the calling runner.
        request: see the contract.
        data: the part.

    Raises:
        UnknownJob, Fenced: see ``load_fenced_attempt``; or the attempt does not run any more.
        WorkTooLarge: there is no room for the part.
    """
    fenced = _running(key_hash, job_id, request["attempt"], claim_token)
    with transaction.atomic():
        job = Job.objects.select_for_update().only("pk", "tenant_id", "status", "attempt_number").get(pk=fenced.job.pk)
        # The attempt may have ended since it was read.
        if (job.status, job.attempt_number) != (JobStatus.RUNNING, request["attempt"]):
            raise Fenced
        work = store_part(job, request["attempt"], request["file"], request["number"], data)
        manifest = request.get("manifest")
        if manifest is None:
            return StoreWorkAnswer(expires_at=None)
        manifest["result"] = fenced.redactor.redact(manifest["result"])
        complete(job, work, manifest)
    expires_at = KeptWork.objects.values_list("expires_at", flat=True).get(pk=work.pk)
    return StoreWorkAnswer(expires_at=expires_at.isoformat())


def read_work(key_hash: str, job_id: str, claim_token: str, request: ReadWorkRequest) -> ReadWorkAnswer:
    """Return a part of the work that the present attempt has to push.

    Raises:
        UnknownJob, Fenced: see ``load_fenced_attempt``; or the attempt does not run any more.
        UnknownWork: the work or the part is gone, or no key opens it.
    """
    fenced = _running(key_hash, job_id, request["attempt"], claim_token)
    work_pk = Job.objects.values_list("work_id", flat=True).get(pk=fenced.job.pk)
    try:
        data = None if work_pk is None else read_part(work_pk, request["file"], request["number"])
    except CannotUnseal as error:
        raise UnknownWork(f"The kept work cannot be opened: {error}.") from error
    if data is None:
        raise UnknownWork
    return ReadWorkAnswer(data=base64.b64encode(data).decode())


def _running(key_hash: str, job_id: str, attempt: int, claim_token: str) -> FencedAttempt:
    fenced = load_fenced_attempt(key_hash, job_id, attempt, claim_token)
    if not fenced.is_running:
        raise Fenced
    return fenced
