"""Carries operations out, one at a time for a shard, and finds those that a dead process left behind."""

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
from shards.lifecycle.transitions import move
from shards.models.shard import PoolMode, Shard, ShardState
from shards.monitoring.alerts import alert
from shards.operations.journal import ABANDONED_AFTER_S, Abandoned, OperationJournal, alive
from shards.operations.models import Operation, OperationKind, OperationState
from shards.operations.preconditions import ENDS_JOBS
from shards.operations.procedures import FLOWS
from shards.operations.requests import request, send

log = structlog.get_logger(__name__)

# A message may be lost; what nobody began by then is sent again.
_SEND_AGAIN_AFTER: Final = timedelta(seconds=10)
_MOST_AT_ONCE: Final = 50


def carry_out(operation_id: int) -> None:
    """Do what an operation asks for. A second message for it finds it begun, and does nothing."""
    begun = Operation.objects.filter(pk=operation_id, state=OperationState.QUEUED)
    if not begun.update(state=OperationState.RUNNING, started_at=Now(), alive_at=Now()):
        return
    operation = Operation.objects.select_related("shard__pool", "shard__template").get(pk=operation_id)
    log.info("operation.begins", operation=operation.pk, kind=operation.kind, shard=operation.shard.name)
    try:
        with alive(operation), _out_of_work(operation):
            FLOWS[operation.kind](operation, OperationJournal(operation))
    except Abandoned:
        log.warning("operation.abandoned", operation=operation.pk)
    except MyctobotError as error:
        _end(operation, error.message)
    except Exception as error:  # whatever a provider's library may raise must end the operation, and be read
        log.exception("operation.failed", operation=operation.pk)
        _end(operation, f"{type(error).__name__}: {error}")
    else:
        _end(operation, "")


@contextmanager
def _out_of_work(operation: Operation) -> Iterator[None]:
    """Give a shard no jobs while its container is worked on; where that fails, it counts as stopped.

    What is made has a flow of its own for that, and what is made anew after each job is tried again.
    """
    if operation.kind == OperationKind.PROVISION or _is_tried_again(operation.kind, operation.shard):
        yield
        return
    _take_out(operation)
    try:
        yield
    except Abandoned:
        # Whoever gave it up has said what becomes of the shard.
        raise
    except Exception as error:
        why = error.message if isinstance(error, MyctobotError) else type(error).__name__
        move(operation.shard, ShardState.STOPPED, reason=f"{operation.kind} failed: {why}", by=operation.requested_by)
        raise


def _is_tried_again(kind: str, shard: Shard) -> bool:
    """Whether a rule asks for it again when it was not done."""
    return kind == OperationKind.RECYCLE and shard.pool is not None and shard.pool.mode == PoolMode.EPHEMERAL


@transaction.atomic
def _take_out(operation: Operation) -> None:
    """Raises WrongState: a job was claimed there since this was asked for, and nobody said that it may end."""
    # The lock that claims take: none begins between the look and the change.
    shard = Shard.objects.select_for_update().get(pk=operation.shard_id)
    force = operation.arguments.get("force", False)
    if operation.kind in ENDS_JOBS and not force and running_jobs(shard.pk):
        raise WrongState(f"Shard {shard.name} has taken a job meanwhile; drain it and wait, or say that it may end.")
    move(operation.shard, ShardState.PROVISIONING, reason=f"{operation.kind} under way", by=operation.requested_by)


def _end(operation: Operation, problem: str) -> None:
    state = OperationState.FAILED if problem else OperationState.DONE
    running = Operation.objects.filter(pk=operation.pk, state=OperationState.RUNNING)
    if running.update(state=state, error=problem, ended_at=Now()):
        done = f"shard.{operation.kind}_{'failed' if problem else 'done'}"
        details = {"operation": operation.pk, **({"error": problem} if problem else {})}
        record(operation.requested_by, done, f"shard/{operation.shard.name}", details)
        if problem:
            alert("operation.failed", f"{operation.kind} of {operation.shard.name} failed", problem)
        log.info("operation.ends", operation=operation.pk, kind=operation.kind, state=state.value, error=problem)


def sweep() -> None:
    """Send again what nobody began, and end what nobody carries out any more. Safe to run twice at once."""
    waiting = Operation.objects.filter(
        state=OperationState.QUEUED, requested_at__lt=Now() - _SEND_AGAIN_AFTER
    ).values_list("pk", flat=True)
    for operation_id in waiting.order_by("pk")[:_MOST_AT_ONCE]:
        send(operation_id)
    silent = Q(alive_at__lt=Now() - timedelta(seconds=ABANDONED_AFTER_S))
    for operation in Operation.objects.filter(silent, state=OperationState.RUNNING).select_related("shard"):
        _give_up(operation)


def _give_up(operation: Operation) -> None:
    """End an operation whose process died, and put right what it left half done."""
    _end(operation, "The process that carried it out ended; what it left is put right.")
    shard = Shard.objects.select_related("pool").get(pk=operation.shard_id)
    if shard.state != ShardState.PROVISIONING:
        return
    try:
        if operation.kind in (OperationKind.PROVISION, OperationKind.DESTROY):
            request(shard, OperationKind.DESTROY, by="operations", force=True)
        elif not _is_tried_again(operation.kind, shard):
            move(shard, ShardState.STOPPED, reason=f"{operation.kind} was not finished; look at it, and start it")
    except (OperationUnderWay, WrongState) as error:
        log.info("operation.not_put_right", shard=shard.name, why=error.message)
