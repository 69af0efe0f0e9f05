"""Journal of an operation: stores its steps and the signs of life of its process."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Final

import structlog
from django.db import DatabaseError, connection, transaction
from django.db.models.functions import Now

from myctobot.lib.sql import fetch_one
from shards.models import Shard
from shards.operations.models import Operation, OperationState

log = structlog.get_logger(__name__)

BEAT_EVERY_S: Final = 5
# An operation without a sign of life for this long is abandoned.
ABANDONED_AFTER_S: Final = 60
_MAX_STEPS: Final = 500
_MAX_TEXT: Final = 500

_STEP = """
    UPDATE shards_operation SET alive_at = statement_timestamp(),
        steps = CASE WHEN jsonb_array_length(steps) < %s THEN steps || %s::jsonb ELSE steps END
    WHERE id = %s AND state = 'running' RETURNING id
"""


class Abandoned(Exception):
    """The operation was abandoned, so its process must stop at once."""


class OperationJournal:
    """``Journal`` of one operation, stored in its row.

    Args:
        operation: the operation that this process runs.
    """

    def __init__(self, operation: Operation) -> None:
        self._operation = operation

    def step(self, text: str) -> None:
        """Store a step.

        Raises:
            Abandoned: the operation is no longer running.
        """
        log.info("operation.step", operation=self._operation.pk, text=text)
        entry = [{"at": datetime.now(UTC).isoformat(timespec="milliseconds"), "text": text[:_MAX_TEXT]}]
        if fetch_one(_STEP, [_MAX_STEPS, json.dumps(entry), self._operation.pk]) is None:
            raise Abandoned

    def ref(self, ref: str) -> None:
        """Store the reference of the container before it is created."""
        self.step(f"reference: {ref}")
        Shard.objects.filter(pk=self._operation.shard_id).update(provider_ref=ref)


@contextmanager
def alive(operation: Operation) -> Iterator[None]:
    """Store a sign of life every few seconds, even while the process waits."""
    ended = threading.Event()
    beat = threading.Thread(target=_beat, args=[operation.pk, ended], name=f"operation-{operation.pk}", daemon=True)
    beat.start()
    try:
        yield
    finally:
        ended.set()
        beat.join()


def _beat(operation_id: int, ended: threading.Event) -> None:
    while not ended.wait(BEAT_EVERY_S):
        try:
            with transaction.atomic():
                Operation.objects.filter(pk=operation_id, state=OperationState.RUNNING).update(alive_at=Now())
        except DatabaseError as error:
            log.warning("operation.beat_failed", operation=operation_id, error=str(error))
        finally:
            # The connection belongs to this thread, so no other code closes it.
            connection.close()
