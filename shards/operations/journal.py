"""Takes down each step of an operation at once, and says that whoever carries it out is alive."""

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

from myctobot.lib.sql import one_row
from shards.models.shard import Shard
from shards.operations.models import Operation, OperationState

log = structlog.get_logger(__name__)

BEAT_EVERY_S: Final = 5
# An operation whose process has said nothing for so long was left behind.
ABANDONED_AFTER_S: Final = 60
_MOST_STEPS: Final = 500
_MOST_TEXT: Final = 500

_STEP = """
    UPDATE shards_operation SET alive_at = statement_timestamp(),
        steps = CASE WHEN jsonb_array_length(steps) < %s THEN steps || %s::jsonb ELSE steps END
    WHERE id = %s AND state = 'running' RETURNING id
"""


class Abandoned(Exception):
    """The operation was given up meanwhile: whoever carries it out must stop at once."""


class OperationJournal:
    """The ``Journal`` of one operation, in its row.

    Args:
        operation: being carried out by this process.
    """

    def __init__(self, operation: Operation) -> None:
        self._operation = operation

    def step(self, text: str) -> None:
        """Write a step down.

        Raises:
            Abandoned: the operation does not run any more.
        """
        log.info("operation.step", operation=self._operation.pk, text=text)
        entry = [{"at": datetime.now(UTC).isoformat(timespec="milliseconds"), "text": text[:_MOST_TEXT]}]
        if one_row(_STEP, [_MOST_STEPS, json.dumps(entry), self._operation.pk]) is None:
            raise Abandoned

    def ref(self, ref: str) -> None:
        """Write down under which reference the container will exist, before it does."""
        self.step(f"as {ref}")
        Shard.objects.filter(pk=self._operation.shard_id).update(provider_ref=ref)


@contextmanager
def alive(operation: Operation) -> Iterator[None]:
    """Say every few seconds that this process is at it, even while it waits for something slow."""
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
            log.warning("operation.cannot_beat", operation=operation_id, error=str(error))
        finally:
            # This thread's own, which nobody else closes.
            connection.close()
