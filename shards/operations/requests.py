"""Asking for work on a shard's container: checked, written down, and sent to the operations worker after commit."""

from __future__ import annotations

from functools import partial
from typing import Any

import structlog
from django.db import IntegrityError, transaction
from kombu import Exchange, Queue
from kombu.exceptions import OperationalError

from myctobot.celery import app
from myctobot.contract.jobs import is_slug
from myctobot.errors import InvalidRequest
from myctobot.tenants.audit import record
from shards.errors import OperationUnderWay, WrongState
from shards.lifecycle.running_jobs import running_jobs
from shards.models.shard import Shard
from shards.operations.models import LIVE_OPERATIONS, Operation, OperationKind
from shards.operations.preconditions import why_not
from shards.providers.base import CLEAN
from shards.providers.registry import provider

log = structlog.get_logger(__name__)

QUEUE = "operations"
_LABELLED = frozenset({OperationKind.SNAPSHOT, OperationKind.RESTORE})


def request(shard: Shard, kind: str, *, by: str, force: bool = False, **arguments: Any) -> Operation:
    """Have something done to a shard's container; it is done soon, in another process.

    Args:
        shard: whose.
        kind: an ``OperationKind`` value.
        by: who wants it, as text.
        force: jobs that run there may end.
        arguments: ``label`` of a snapshot.

    Raises:
        WrongState: it cannot be done to a shard in this state, or with this provider.
        OperationUnderWay: something else is being done to it.
        InvalidRequest: an argument is wrong.
    """
    _check_arguments(kind, arguments)
    with transaction.atomic():
        locked = Shard.objects.select_for_update().get(pk=shard.pk)
        features = provider(locked.provider).features if locked.provider else None
        problem = why_not(
            kind,
            state=locked.state,
            provider=locked.provider,
            has_container=bool(locked.provider_ref),
            features=features,
            running=running_jobs(locked.pk),
            force=force,
        )
        if problem:
            raise WrongState(f"Shard {shard.name}: no {kind}, because {problem}.")
        operation = _create(locked, kind, by, {**arguments, **({"force": True} if force else {})})
        record(by, f"shard.{kind}_requested", f"shard/{shard.name}", {"operation": operation.pk, **arguments})
        transaction.on_commit(partial(send, operation.pk))
    return operation


def _create(shard: Shard, kind: str, by: str, arguments: dict[str, Any]) -> Operation:
    try:
        with transaction.atomic():
            return Operation.objects.create(shard=shard, kind=kind, requested_by=by[:150], arguments=arguments)
    except IntegrityError:
        # The constraint lets one row in.
        other = Operation.objects.filter(shard=shard, state__in=LIVE_OPERATIONS).first()
        doing = f"{other.kind}, asked for by {other.requested_by}" if other else "something else"
        raise OperationUnderWay(f"Shard {shard.name}: {doing}, is under way; wait until it is done.") from None


def _check_arguments(kind: str, arguments: dict[str, Any]) -> None:
    if kind not in OperationKind.values:
        raise InvalidRequest(fields={"kind": [f"Must be one of: {', '.join(OperationKind.values)}."]})
    label = arguments.get("label")
    if kind not in _LABELLED:
        if arguments:
            raise InvalidRequest(fields={min(arguments): [f"A {kind} takes no such argument."]})
        return
    if not isinstance(label, str) or not is_slug(label):
        raise InvalidRequest(fields={"label": ["Name the snapshot by a lower-case slug (a-z, 0-9, inner dashes)."]})
    if kind == OperationKind.SNAPSHOT and label == CLEAN:
        raise InvalidRequest(fields={"label": [f"“{CLEAN}” is the snapshot that every container begins with."]})


def send(operation_id: int) -> None:
    """Tell the operations worker; what cannot be sent is found by the next sweep."""
    queue = Queue(QUEUE, exchange=Exchange("", type="direct"), routing_key=QUEUE, no_declare=True)
    try:
        app.send_task("shards.operate", args=[operation_id], queue=queue, retry=False)  # type: ignore[arg-type]  # a Queue will do
    except OperationalError as error:
        log.warning("broker.unreachable", wanted="operation", operation=operation_id, error=str(error))
