"""Outbox of callbacks: each is stored by the statement that makes the change which it reports."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from django.conf import settings
from django.db import transaction

from jobs import broker
from jobs.callbacks.models import MAX_HOST_LENGTH, CallbackState, new_callback_id
from jobs.models import Job
from myctobot.contract.jobs import JobStatus

STARTED: Final = "job.started"
KINDS: Final = {
    JobStatus.RUNNING: STARTED,
    JobStatus.COMPLETED: "job.completed",
    JobStatus.FAILED: "job.failed",
    JobStatus.CANCELLED: "job.cancelled",
}
_MAX_TEXT = 2000


@dataclass(frozen=True)
class JobReport:
    """Content of a callback: the job after the change, except for the time, which the database sets.

    Attributes:
        job: as it was read before the change.
        status: a key of ``KINDS``.
        result: of the job; None while it runs.
        code, message: of its error; empty when there is none.
    """

    job: Job
    status: JobStatus
    result: Mapping[str, Any] | None = None
    code: str = ""
    message: str = ""

    @property
    def values(self) -> dict[str, Any]:
        """Values for the placeholders of ``store_callback_sql``."""
        kind = KINDS[self.status]
        # The body is a text that is signed as it is: the database only inserts the time into it.
        start = json.dumps({"type": kind, "timestamp": ""}, separators=(",", ":"))[: -len('"}')]
        end = f'","data":{json.dumps(self._data(), separators=(",", ":"))}}}'
        return {
            "callback_kind": kind,
            "callback_id": new_callback_id(),
            "callback_tenant": self.job.tenant_id,
            "callback_host": host_of(self.job.callback_url),
            "body_start": start,
            "body_end": end,
        }

    def _data(self) -> dict[str, Any]:
        result = self.result or {}
        return {
            "id": self.job.public_id,
            "status": self.status.value,
            "attempt": self.job.attempt_number,
            "url": f"{settings.CONTROL_URL}/api/v1/jobs/{self.job.public_id}",
            "branch": result.get("branch"),
            "head": result.get("head"),
            "summary": str(result.get("summary") or "")[:_MAX_TEXT],
            "error": {"code": self.code, "message": self.message[:_MAX_TEXT]} if self.code else None,
        }


def store_callback_sql(status: JobStatus) -> str:
    """Return a statement that stores the callback of a job in ``changed``, once for each kind.

    Args:
        status: a key of ``KINDS``; ``changed`` has the column with its time.
    """
    moment = "started_at" if status == JobStatus.RUNNING else "finished_at"
    stamp = f"""to_char({moment} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"+00:00"')"""
    return f"""
        INSERT INTO jobs_callback (job_id, tenant_id, host, kind, public_id, body, state, tries)
        SELECT id, %(callback_tenant)s, %(callback_host)s, %(callback_kind)s, %(callback_id)s,
            %(body_start)s || {stamp} || %(body_end)s, '{CallbackState.WAITING.value}', 0
        FROM changed ON CONFLICT (job_id, kind) DO NOTHING
    """  # noqa: S608  # only our own constants


def host_of(url: str) -> str:
    """Return host and port of a callback URL in one spelling, which the slots of deliveries count; never empty."""
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").rstrip("."), parts.port
    except ValueError:
        host, port = "", None
    return f"{host or '-'}:{443 if port is None else port}"[:MAX_HOST_LENGTH]


def request_delivery_after_commit() -> None:
    """Ask for the delivery of waiting callbacks once the present transaction is committed."""
    transaction.on_commit(broker.request_delivery, robust=True)
