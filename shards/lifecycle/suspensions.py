"""Suspensions: drain and resume shards, pause and resume pools and classes, with a history."""

from __future__ import annotations

from typing import Any

import structlog
from django.db import transaction
from django.db.models.functions import Now

from myctobot.errors import InvalidRequest
from myctobot.tenants.audit import record
from shards.errors import AlreadySuspended, NothingToResume, UnknownShard
from shards.lifecycle.transitions import transition
from shards.models import Pool, Shard, ShardState, Suspension

log = structlog.get_logger(__name__)

MAX_REASON = 300


def find_shard(name: str) -> Shard:
    """Return the shard with this name.

    Raises:
        UnknownShard: there is none; the error lists known names.
    """
    shard = Shard.objects.filter(name=name).first()
    if shard is None:
        known = ", ".join(Shard.objects.order_by("name").values_list("name", flat=True)[:10]) or "none"
        raise UnknownShard(f"There is no shard '{name[:60]}'; there are: {known}.")
    return shard


@transaction.atomic
def drain(name: str, *, by: str, reason: str) -> Suspension:
    """Let a shard finish its running jobs and give it no new ones.

    Args:
        name: name of the shard.
        by: actor, as text.
        reason: shown to members whose jobs wait.

    Raises:
        UnknownShard, AlreadySuspended, InvalidRequest: nothing is changed.
        WrongState: the shard does not exist yet or any more.
    """
    shard = find_shard(name)
    suspension = _suspend({"shard": shard}, f"Shard {name}", by, reason)
    transition(shard, ShardState.DRAINING, reason=suspension.reason, by=by)
    record(by, "shard.drained", f"shard/{name}", {"reason": suspension.reason})
    return suspension


@transaction.atomic
def resume(name: str, *, by: str) -> Suspension | None:
    """Let a drained shard take jobs again, and return the suspension that ends, if there is one.

    Raises:
        UnknownShard, NothingToResume: nothing is changed.
    """
    shard = Shard.objects.select_for_update().get(pk=find_shard(name).pk)
    suspension = Suspension.objects.filter(shard=shard, resumed_at=None).first()
    if suspension is None and shard.state != ShardState.DRAINING:
        raise NothingToResume(f"Shard {name} is not drained. Its state is {shard.state}.")
    Suspension.objects.filter(shard=shard, resumed_at=None).update(resumed_at=Now(), resumed_by=by)
    if shard.state == ShardState.DRAINING:
        transition(shard, ShardState.READY, reason="resumed", by=by)
    record(by, "shard.resumed", f"shard/{name}")
    return suspension


@transaction.atomic
def pause(*, pool: str | None = None, shard_class: str | None = None, by: str, reason: str) -> Suspension:
    """Stop dispatch to the shards of a pool or of a class; their running jobs continue.

    Raises:
        AlreadySuspended: it is already paused.
        InvalidRequest: there is no such pool or class, or no reason.
    """
    target, label = _find_target(pool, shard_class)
    suspension = _suspend(target, label, by, reason)
    record(by, f"{_subject(target)[0]}.paused", "/".join(_subject(target)), {"reason": suspension.reason})
    return suspension


@transaction.atomic
def unpause(*, pool: str | None = None, shard_class: str | None = None, by: str) -> None:
    """End a pause.

    Raises:
        NothingToResume: it is not paused.
        InvalidRequest: there is no such pool or class.
    """
    target, label = _find_target(pool, shard_class)
    if not Suspension.objects.filter(resumed_at=None, **target).update(resumed_at=Now(), resumed_by=by):
        raise NothingToResume(f"{label} is not paused.")
    record(by, f"{_subject(target)[0]}.resumed", "/".join(_subject(target)))


def _find_target(pool: str | None, shard_class: str | None) -> tuple[dict[str, Any], str]:
    if (pool is None) == (shard_class is None):
        raise InvalidRequest(fields={"pool": ["Name either a pool or a class."]})
    if pool is not None:
        found = Pool.objects.filter(name=pool).first()
        if found is None:
            known = ", ".join(Pool.objects.order_by("name").values_list("name", flat=True)[:10]) or "none"
            raise InvalidRequest(fields={"pool": [f"There is no pool '{pool[:60]}'; there are: {known}."]})
        return {"pool": found}, f"Pool {pool}"
    if not Shard.objects.filter(shard_class=shard_class).exists():
        names = sorted(set(Shard.objects.values_list("shard_class", flat=True)))[:10]
        problem = f"There is no class '{(shard_class or '')[:60]}'; there are: {', '.join(names) or 'none'}."
        raise InvalidRequest(fields={"class": [problem]})
    return {"shard_class": shard_class}, f"Class {shard_class}"


def _subject(target: dict[str, Any]) -> tuple[str, str]:
    """Return the kind and name of a target for the audit log."""
    return ("pool", target["pool"].name) if "pool" in target else ("class", target["shard_class"])


def _suspend(target: dict[str, Any], label: str, by: str, reason: str) -> Suspension:
    reason = " ".join(reason.split())
    if not 1 <= len(reason) <= MAX_REASON:
        raise InvalidRequest(fields={"reason": [f"Give a reason of 1 to {MAX_REASON} characters."]})
    # Of two concurrent calls, the unique constraint lets one create the row; the other finds it.
    row, created = Suspension.objects.get_or_create(
        resumed_at=None, **target, defaults={"suspended_by": by, "reason": reason}
    )
    if not created:
        raise AlreadySuspended(f"{label} is already suspended by {row.suspended_by}: {row.reason}")
    row.refresh_from_db()
    log.info("dispatch.suspended", target=label, by=by, reason=reason)
    return row
