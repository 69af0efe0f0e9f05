"""Actuator of autoscaling: builds shards, releases idle ones and removes those that are drained.

It only requests operations. It never removes a shard that runs or is about to run a job: it checks this under the lock
of the shard's row, which every claim takes, and a draining shard gets no further job.
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
from shards.errors import AlreadySuspended, OperationUnderWay, WrongState
from shards.lifecycle import suspensions
from shards.models import Pool, Shard, ShardState, Suspension
from shards.operations.models import LIVE_OPERATIONS, Operation, OperationKind, OperationState
from shards.operations.requests import request

log = structlog.get_logger(__name__)

# Tells by a shard's id whether the shard has an attempt or is about to get one.
IsBusy = Callable[[int], bool]

_MAX_REASON: Final = 300
_MAX_NAME: Final = 34
_RETRY_DESTROY_AFTER: Final = timedelta(minutes=5)


def provision_shard(pool: Pool, *, as_spare: bool) -> Shard:
    """Request one more shard for a pool; a shard that autoscaling removed earlier is provisioned again.

    Raises:
        InvalidRequest: the pool has no template or no provider.
        MyctobotError: the operation is refused.
    """
    if pool.template is None or not pool.provider:
        missing = "template" if pool.template is None else "provider"
        raise InvalidRequest(fields={missing: [f"Pool {pool.name} has no {missing}, so no shard can be built for it."]})
    with transaction.atomic():
        shard = _reusable_shard(pool) or Shard(name=_free_name(pool), pool=pool)
        shard.template, shard.provider = pool.template, pool.provider
        shard.shard_type, shard.capabilities = pool.template.shard_type, list(pool.template.capabilities)
        shard.max_concurrent_jobs = pool.template.max_concurrent_jobs
        shard.is_spare, shard.description = as_spare, f"Built by autoscaling for pool {pool.name}."
        shard.save()
        shard.suspensions.filter(resumed_at=None).update(resumed_at=Now(), resumed_by=BY)
        request(shard, OperationKind.PROVISION, by=BY)
    return shard


def _reusable_shard(pool: Pool) -> Shard | None:
    """Return a shard of the pool that autoscaling built and that is gone or could not be built."""
    built_by_us = Operation.objects.filter(shard=OuterRef("pk"), kind=OperationKind.PROVISION, requested_by=BY)
    live = Operation.objects.filter(shard=OuterRef("pk"), state__in=LIVE_OPERATIONS)
    rows = Shard.objects.select_for_update(of=("self",), skip_locked=True, no_key=True).filter(
        Exists(built_by_us), ~Exists(live), pool=pool, is_active=True, provider_ref="",
        state__in=(ShardState.REQUESTED, ShardState.GONE),
    )  # fmt: skip
    return rows.order_by("-state", "pk").first()


def _free_name(pool: Pool) -> str:
    stem = pool.name[:_MAX_NAME].rstrip("-")
    pattern = re.compile(rf"{re.escape(stem)}-([1-9]\d*)")
    names = Shard.objects.filter(name__startswith=f"{stem}-").values_list("name", flat=True)
    taken = {int(found[1]) for name in names if (found := pattern.fullmatch(name))}
    return f"{stem}-{next(number for number in range(1, len(taken) + 2) if number not in taken)}"


@transaction.atomic
def release(name: str, *, reason: str, is_busy: IsBusy) -> bool:
    """Drain an idle shard so that it can be removed; return False when it is no longer idle."""
    shard = Shard.objects.select_for_update(no_key=True).get(name=name)
    if shard.state != ShardState.READY or is_busy(shard.pk):
        return False
    try:
        suspensions.drain(name, by=BY, reason=reason[:_MAX_REASON])
    except AlreadySuspended:
        return False
    audit(BY, "shard.released", f"shard/{name}", {"reason": reason})
    return True


def remove_drained(pool: Pool, is_busy: IsBusy) -> list[str]:
    """Request the removal of released shards that run nothing, and return their names."""
    live = Operation.objects.filter(shard=OuterRef("pk"), state__in=LIVE_OPERATIONS)
    recently_failed = Operation.objects.filter(
        shard=OuterRef("pk"), kind=OperationKind.DESTROY, state=OperationState.FAILED,
        ended_at__gt=Now() - _RETRY_DESTROY_AFTER,
    )  # fmt: skip
    released = _released_shards(pool).filter(~Exists(live), ~Exists(recently_failed)).exclude(provider_ref="")
    return [name for pk, name in released.order_by("pk").values_list("pk", "name") if _remove(pool, pk, is_busy)]


def _released_shards(pool: Pool) -> QuerySet[Shard]:
    ours = Suspension.objects.filter(shard=OuterRef("pk"), resumed_at=None, suspended_by=BY)
    return Shard.objects.filter(Exists(ours), pool=pool, state=ShardState.DRAINING)


@transaction.atomic
def _remove(pool: Pool, shard_id: int, is_busy: IsBusy) -> bool:
    # 1. Take the lock that claims take. The next statement then sees every earlier claim.
    shard = _released_shards(pool).select_for_update(of=("self",), no_key=True).filter(pk=shard_id).first()
    # 2. Check again: an operator may have resumed it. Later claims are refused because it drains.
    if shard is None or is_busy(shard_id):
        return False
    try:
        request(shard, OperationKind.DESTROY, by=BY)
    except (OperationUnderWay, WrongState) as error:
        # For example, its worker still reports a runner.
        log.info("shard.removal_refused", shard=shard.name, reason=error.message)
        return False
    return True


def problem_of(error: MyctobotError) -> str:
    """Return an error as one text, with the problems of its fields."""
    if isinstance(error, InvalidRequest):
        return " ".join(problem for problems in error.fields.values() for problem in problems)
    return error.message
