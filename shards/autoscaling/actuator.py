"""Does what autoscaling decided: has shards made, lets idle ones go, and removes those that are drained and idle.

It only asks for operations. A shard that runs a job, or that one is on its way to, is never removed: whether it is so
is looked at under the lock of the shard's row, which every claim takes, and a draining shard is given no other.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Final

import structlog
from django.db import transaction
from django.db.models import Exists, OuterRef, QuerySet
from django.db.models.functions import Now

from myctobot.errors import InvalidRequest, MyctobotError
from myctobot.tenants.audit import record as audit
from shards.autoscaling.pool_state import BY
from shards.errors import AlreadyClosed, OperationUnderWay, WrongState
from shards.lifecycle.states import suspensions as closing
from shards.models.shard import Closure, Pool, Shard, ShardState
from shards.operations.models import LIVE_OPERATIONS, Operation, OperationKind, OperationState
from shards.operations.requests import request

log = structlog.get_logger(__name__)

# Whether a shard, by its id, has an attempt or is about to get one.
IsBusy = Callable[[int], bool]

_MOST_REASON: Final = 300
_MOST_NAME: Final = 34
_DESTROY_AGAIN: Final = timedelta(minutes=5)


def build(pool: Pool, *, as_spare: bool) -> Shard:
    """Have one more shard of a pool made; what was made and removed before is made again under its name.

    Raises:
        InvalidRequest: the pool does not say what to make, or by whom.
        MyctobotError: it cannot be asked for.
    """
    if pool.template is None or not pool.provider:
        wanted = "template" if pool.template is None else "provider"
        raise InvalidRequest(fields={wanted: [f"Pool {pool.name} names no {wanted}, so nothing can be built for it."]})
    with transaction.atomic():
        shard = _former(pool) or Shard(name=_free_name(pool), pool=pool)
        shard.template, shard.provider = pool.template, pool.provider
        shard.shard_type, shard.capabilities = pool.template.shard_type, list(pool.template.capabilities)
        shard.max_concurrent_jobs = pool.template.max_concurrent_jobs
        shard.is_spare, shard.description = as_spare, f"Made by autoscaling for pool {pool.name}."
        shard.save()
        shard.closures.filter(reopened_at=None).update(reopened_at=Now(), reopened_by=BY)
        request(shard, OperationKind.PROVISION, by=BY)
    return shard


def _former(pool: Pool) -> Shard | None:
    """A shard of the pool that autoscaling had made and that is gone, or could not be made."""
    made_by_us = Operation.objects.filter(shard=OuterRef("pk"), kind=OperationKind.PROVISION, requested_by=BY)
    live = Operation.objects.filter(shard=OuterRef("pk"), state__in=LIVE_OPERATIONS)
    rows = Shard.objects.select_for_update(of=("self",), skip_locked=True, no_key=True).filter(
        Exists(made_by_us), ~Exists(live), pool=pool, is_active=True, provider_ref="",
        state__in=(ShardState.REQUESTED, ShardState.GONE),
    )  # fmt: skip
    return rows.order_by("-state", "pk").first()


def _free_name(pool: Pool) -> str:
    stem = pool.name[:_MOST_NAME].rstrip("-")
    pattern = re.compile(rf"{re.escape(stem)}-([1-9]\d*)")
    names = Shard.objects.filter(name__startswith=f"{stem}-").values_list("name", flat=True)
    taken = {int(found[1]) for name in names if (found := pattern.fullmatch(name))}
    return f"{stem}-{next(number for number in range(1, len(taken) + 2) if number not in taken)}"


@transaction.atomic
def let_go(name: str, *, reason: str, is_busy: IsBusy) -> bool:
    """Drain an idle shard, to be removed; False when it is not idle any more."""
    shard = Shard.objects.select_for_update(no_key=True).get(name=name)
    if shard.state != ShardState.READY or is_busy(shard.pk):
        return False
    try:
        closing.drain(name, by=BY, reason=reason[:_MOST_REASON])
    except AlreadyClosed:
        return False
    audit(BY, "shard.let_go", f"shard/{name}", {"reason": reason})
    return True


def remove_drained(pool: Pool, is_busy: IsBusy) -> list[str]:
    """Have those destroyed that were let go and run nothing any more; returns their names."""
    live = Operation.objects.filter(shard=OuterRef("pk"), state__in=LIVE_OPERATIONS)
    in_vain = Operation.objects.filter(
        shard=OuterRef("pk"), kind=OperationKind.DESTROY, state=OperationState.FAILED,
        ended_at__gt=Now() - _DESTROY_AGAIN,
    )  # fmt: skip
    let_go = _let_go(pool).filter(~Exists(live), ~Exists(in_vain)).exclude(provider_ref="")
    return [name for pk, name in let_go.order_by("pk").values_list("pk", "name") if _remove(pool, pk, is_busy)]


def _let_go(pool: Pool) -> QuerySet[Shard]:
    ours = Closure.objects.filter(shard=OuterRef("pk"), reopened_at=None, closed_by=BY)
    return Shard.objects.filter(Exists(ours), pool=pool, state=ShardState.DRAINING)


@transaction.atomic
def _remove(pool: Pool, shard_id: int, is_busy: IsBusy) -> bool:
    # 1. The lock that claims take: whoever claimed before is seen by the next statement.
    shard = _let_go(pool).select_for_update(of=("self",), no_key=True).filter(pk=shard_id).first()
    # 2. An operator may have resumed it meanwhile; whoever claims from now on is refused, because it drains.
    if shard is None or is_busy(shard_id):
        return False
    try:
        request(shard, OperationKind.DESTROY, by=BY)
    except (OperationUnderWay, WrongState) as error:
        # Such as a runner that its worker still reports.
        log.info("shard.not_removed", shard=shard.name, why=error.message)
        return False
    return True


def problem_of(error: MyctobotError) -> str:
    """An error in one sentence, the problems of its fields included."""
    if isinstance(error, InvalidRequest):
        return " ".join(problem for problems in error.fields.values() for problem in problems)
    return error.message
