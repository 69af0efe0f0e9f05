"""Steps for rows that do not depend on each other, so the error of one leaves the others alone."""

from __future__ import annotations

from collections.abc import Callable

import structlog
from django.db import transaction

log = structlog.get_logger(__name__)


def run_isolated(job_id: str, step: Callable[[], None]) -> None:
    """Run the step of one row in a transaction of its own, and log an error instead of passing it on."""
    try:
        with transaction.atomic():
            step()
    except Exception:  # the border between rows: one that cannot be handled must not stop the others
        log.exception("reaper.row_failed", job=job_id)
