"""Executor of operations: runs one at a time per shard, and ends those whose process died."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Final

import structlog
from django.db import transaction
from django.db.models import Q
from django.db.models.functions import Now

from myctobot.errors import MyctobotError
from myctobot.tenants.audit import record
from shards.errors import OperationUnderWay, WrongState
from shards.lifecycle.running_jobs import running_jobs
from shards.lifecycle.transitions import transition
from shards.models import PoolMode, Shard, ShardState
from shards.monitoring.alerts import alert
from shards.operations.journal import ABANDONED_AFTER_S, Abandoned, OperationJournal, alive
from shards.operations.models import Operation, OperationKind, OperationState
from shards.operations.preconditions import ENDS_JOBS
from shards.operations.procedures import PROCEDURES
from shards.operations.requests import request, send

log = structlog.get_logger(__name__)

# Send the message again if the operation has not started by then; a message may be lost.
_RESEND_AFTER: Final = timedelta(seconds=10)
_MAX_RESENT: Final = 50


def carry_out(operation_id: int) -> None:
    """Run an operation. A second message for it does nothing, because the operation has started."""
    queued = Operation.objects.filter(pk=operation_id, state=OperationState.QUEUED)
    if not queued.update(state=OperationState.RUNNING, started_at=Now(), alive_at=Now()):
        return
    operation = Operation.objects.select_related("shard__pool", "shard__template").get(pk=operation_id)
    log.info("operation.started", operation=operation.pk, kind=operation.kind, shard=operation.shard.name)
    try:
        with alive(operation), _out_of_service(operation):
            PROCEDURES[operation.kind](operation, OperationJournal(operation))
    except Abandoned:
        log.warning("operation.abandoned", operation=operation.pk)
    except MyctobotError as error:
        _end(operation, error.message)
    except Exception as error:  # Any error of a provider's library must end the operation and be stored.
        log.exception("operation.failed", operation=operation.pk)
        _end(operation, f"{type(error).__name__}: {error}")
    else:
        _end(operation, "")


@contextmanager
def _out_of_service(operation: Operation) -> Iterator[None]:
    """Give a shard no jobs during an operation; if the operation fails, the shard is stopped.

    Provisioning sets its own states, and failed recycling of an ephemeral shard is retried.
    """
    if operation.kind == OperationKind.PROVISION or _is_retried(operation.kind, operation.shard):
        yield
        return
    _take_out_of_service(operation)
    try:
        yield
    except Abandoned:
        # The sweep that abandoned the operation has set the shard's state.
        raise
    except Exception as error:
        reason = error.message if isinstance(error, MyctobotError) else type(error).__name__
        transition(
            operation.shard, ShardState.STOPPED, reason=f"{operation.kind} failed: {reason}", by=operation.requested_by
        )
        raise


def _is_retried(kind: str, shard: Shard) -> bool:
    """Tell whether a rule requests the operation again after a failure."""
    return kind == OperationKind.RECYCLE and shard.pool is not None and shard.pool.mode == PoolMode.EPHEMERAL


@transaction.atomic
def _take_out_of_service(operation: Operation) -> None:
    """Move the shard to provisioning.

    Raises:
        WrongState: the shard claimed a job after the request, and the request does not allow it to end.
    """
    # Take the lock that claims take, so that no claim comes between the check and the change.
    shard = Shard.objects.select_for_update().get(pk=operation.shard_id)
    force = operation.arguments.get("force", False)
    if operation.kind in ENDS_JOBS and not force and running_jobs(shard.pk):
        raise WrongState(
            f"Shard {shard.name} has claimed a job since the request. Drain it and wait, or allow the job to end."
        )
    transition(
        operation.shard, ShardState.PROVISIONING, reason=f"{operation.kind} in progress", by=operation.requested_by
    )


def _end(operation: Operation, problem: str) -> None:
    state = OperationState.FAILED if problem else OperationState.DONE
    running = Operation.objects.filter(pk=operation.pk, state=OperationState.RUNNING)
    if running.update(state=state, error=problem, ended_at=Now()):
        action = f"shard.{operation.kind}_{'failed' if problem else 'done'}"
        details = {"operation": operation.pk, **({"error": problem} if problem else {})}
        record(operation.requested_by, action, f"shard/{operation.shard.name}", details)
        if problem:
            alert("operation.failed", f"{operation.kind} of {operation.shard.name} failed", problem)
        log.info("operation.ended", operation=operation.pk, kind=operation.kind, state=state.value, error=problem)


def sweep() -> None:
    """Resend operations that have not started, and end those whose process died. Safe to run twice at once."""
    waiting = Operation.objects.filter(state=OperationState.QUEUED, requested_at__lt=Now() - _RESEND_AFTER).values_list(
        "pk", flat=True
    )
    for operation_id in waiting.order_by("pk")[:_MAX_RESENT]:
        send(operation_id)
    silent = Q(alive_at__lt=Now() - timedelta(seconds=ABANDONED_AFTER_S))
    for operation in Operation.objects.filter(silent, state=OperationState.RUNNING).select_related("shard"):
        _abandon(operation)


def _abandon(operation: Operation) -> None:
    """End an operation whose process died, and clean up after it."""
    _end(operation, "The process that ran the operation died.")
    shard = Shard.objects.select_related("pool").get(pk=operation.shard_id)
    if shard.state != ShardState.PROVISIONING:
        return
    try:
        if operation.kind in (OperationKind.PROVISION, OperationKind.DESTROY):
            request(shard, OperationKind.DESTROY, by="operations", force=True)
        elif not _is_retried(operation.kind, shard):
            reason = f"{operation.kind} did not finish. Check the container, then start it."
            transition(shard, ShardState.STOPPED, reason=reason)
    except (OperationUnderWay, WrongState) as error:
        log.info("operation.cleanup_refused", shard=shard.name, reason=error.message)
