"""Requests for operations: check, store, and send to the operations worker after commit."""

from __future__ import annotations

from functools import partial
from typing import Any

import structlog
from django.db import IntegrityError, transaction

from myctobot.contract.names import is_slug
from myctobot.errors import InvalidRequest
from myctobot.messaging import send_to_control
from myctobot.tenants.audit import record
from shards.errors import OperationUnderWay, WrongState
from shards.lifecycle.running_jobs import running_jobs
from shards.models import Shard
from shards.operations.models import LIVE_OPERATIONS, Operation, OperationKind
from shards.operations.preconditions import blocked_reason
from shards.providers.base import CLEAN
from shards.providers.registry import provider

log = structlog.get_logger(__name__)

QUEUE = "operations"
NEEDS_LABEL = frozenset({OperationKind.SNAPSHOT, OperationKind.RESTORE})


def request(shard: Shard, kind: str, *, by: str, force: bool = False, **arguments: Any) -> Operation:
    """Request an operation on a shard's container, which runs soon in another process.

    Args:
        shard: the shard.
        kind: an ``OperationKind`` value.
        by: actor, as text.
        force: running jobs may end.
        arguments: ``label`` of a snapshot.

    Raises:
        WrongState: the shard's state or provider does not allow the operation.
        OperationUnderWay: another operation is queued or running.
        InvalidRequest: an argument is wrong.
    """
    _check_arguments(kind, arguments)
    with transaction.atomic():
        locked = Shard.objects.select_for_update().get(pk=shard.pk)
        features = provider(locked.provider).features if locked.provider else None
        problem = blocked_reason(
            kind,
            state=locked.state,
            provider=locked.provider,
            has_container=bool(locked.provider_ref),
            features=features,
            running=running_jobs(locked.pk),
            force=force,
        )
        if problem:
            raise WrongState(f"Shard {shard.name}: {kind} is not possible, because {problem}.")
        operation = _create(locked, kind, by, {**arguments, **({"force": True} if force else {})})
        record(by, f"shard.{kind}_requested", f"shard/{shard.name}", {"operation": operation.pk, **arguments})
        transaction.on_commit(partial(send, operation.pk))
    return operation


def _create(shard: Shard, kind: str, by: str, arguments: dict[str, Any]) -> Operation:
    try:
        with transaction.atomic():
            return Operation.objects.create(shard=shard, kind=kind, requested_by=by[:150], arguments=arguments)
    except IntegrityError:
        # The unique constraint allows one live operation.
        other = Operation.objects.filter(shard=shard, state__in=LIVE_OPERATIONS).first()
        text = f"{other.kind}, requested by {other.requested_by}," if other else "another operation"
        raise OperationUnderWay(f"Shard {shard.name}: {text} is in progress; wait until it has ended.") from None


def _check_arguments(kind: str, arguments: dict[str, Any]) -> None:
    if kind not in OperationKind.values:
        raise InvalidRequest(fields={"kind": [f"Must be one of: {', '.join(OperationKind.values)}."]})
    label = arguments.get("label")
    if kind not in NEEDS_LABEL:
        if arguments:
            raise InvalidRequest(fields={min(arguments): [f"{kind} has no such argument."]})
        return
    if not isinstance(label, str) or not is_slug(label):
        raise InvalidRequest(
            fields={"label": ["The snapshot's name must be a lower-case slug (a-z, 0-9, inner dashes)."]}
        )
    if kind == OperationKind.SNAPSHOT and label == CLEAN:
        raise InvalidRequest(fields={"label": [f"“{CLEAN}” is reserved for the first snapshot of every container."]})


def send(operation_id: int) -> None:
    """Send an operation to the operations worker; the sweep resends a message that is lost."""
    send_to_control("shards.operate", operation_id, queue=QUEUE)
