"""Taking shards, classes and pools out of dispatch, and back: who, when and why stays as history."""

from __future__ import annotations

from typing import Any

import structlog
from django.db import transaction
from django.db.models.functions import Now

from myctobot.errors import InvalidRequest
from myctobot.tenants.audit import record
from shards.errors import AlreadyClosed, NothingToReopen, UnknownShard
from shards.lifecycle.transitions import move
from shards.models.shard import Closure, Pool, Shard, ShardState

log = structlog.get_logger(__name__)

_MOST_REASON = 300


def find_shard(name: str) -> Shard:
    """Return the shard of that name.

    Raises:
        UnknownShard: there is none; the error names those that there are.
    """
    shard = Shard.objects.filter(name=name).first()
    if shard is None:
        known = ", ".join(Shard.objects.order_by("name").values_list("name", flat=True)[:10]) or "none"
        raise UnknownShard(f"There is no shard '{name[:60]}'; there are: {known}.")
    return shard


@transaction.atomic
def drain(name: str, *, by: str, reason: str) -> Closure:
    """Let a shard finish what it runs, and give it nothing more.

    Args:
        name: the shard's.
        by: who does it, as text.
        reason: for whoever asks why jobs wait.

    Raises:
        UnknownShard, AlreadyClosed, InvalidRequest: and nothing is changed.
        WrongState: nothing runs there: it is not made yet, or gone.
    """
    shard = find_shard(name)
    closure = _close({"shard": shard}, f"Shard {name}", by, reason)
    move(shard, ShardState.DRAINING, reason=closure.reason, by=by)
    record(by, "shard.drained", f"shard/{name}", {"reason": closure.reason})
    return closure


@transaction.atomic
def resume(name: str, *, by: str) -> Closure | None:
    """Let a drained shard take jobs again; returns what had closed it, if that is on record.

    Raises:
        UnknownShard, NothingToReopen: and nothing is changed.
    """
    shard = Shard.objects.select_for_update().get(pk=find_shard(name).pk)
    closure = Closure.objects.filter(shard=shard, reopened_at=None).first()
    if closure is None and shard.state != ShardState.DRAINING:
        raise NothingToReopen(f"Shard {name} is not drained; it is {shard.state}.")
    Closure.objects.filter(shard=shard, reopened_at=None).update(reopened_at=Now(), reopened_by=by)
    if shard.state == ShardState.DRAINING:
        move(shard, ShardState.READY, reason="resumed", by=by)
    record(by, "shard.resumed", f"shard/{name}")
    return closure


@transaction.atomic
def pause(*, pool: str | None = None, shard_class: str | None = None, by: str, reason: str) -> Closure:
    """Send nothing more to the shards of a pool, or of a class; what they run goes on.

    Raises:
        AlreadyClosed: it is paused already.
        InvalidRequest: there is no such pool or class, or no reason.
    """
    where, label = _place(pool, shard_class)
    closure = _close(where, label, by, reason)
    record(by, f"{_subject(where)[0]}.paused", "/".join(_subject(where)), {"reason": closure.reason})
    return closure


@transaction.atomic
def unpause(*, pool: str | None = None, shard_class: str | None = None, by: str) -> None:
    """Undo a pause.

    Raises:
        NothingToReopen: it is not paused.
        InvalidRequest: there is no such pool or class.
    """
    where, label = _place(pool, shard_class)
    if not Closure.objects.filter(reopened_at=None, **where).update(reopened_at=Now(), reopened_by=by):
        raise NothingToReopen(f"{label} is not paused.")
    record(by, f"{_subject(where)[0]}.resumed", "/".join(_subject(where)))


def _place(pool: str | None, shard_class: str | None) -> tuple[dict[str, Any], str]:
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


def _subject(where: dict[str, Any]) -> tuple[str, str]:
    """What the audit log calls a pool or a class."""
    return ("pool", where["pool"].name) if "pool" in where else ("class", where["shard_class"])


def _close(where: dict[str, Any], label: str, by: str, reason: str) -> Closure:
    reason = " ".join(reason.split())
    if not 1 <= len(reason) <= _MOST_REASON:
        raise InvalidRequest(fields={"reason": [f"Say why, in 1 to {_MOST_REASON} characters."]})
    # Two at once: the constraint lets one row in, and the other finds it.
    row, created = Closure.objects.get_or_create(
        reopened_at=None, **where, defaults={"closed_by": by, "reason": reason}
    )
    if not created:
        raise AlreadyClosed(f"{label} is closed already, by {row.closed_by}: {row.reason}")
    row.refresh_from_db()
    log.info("dispatch.closed", place=label, by=by, reason=reason)
    return row
