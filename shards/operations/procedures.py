"""What each kind of operation does, step by step, with the provider of its shard."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Final

import structlog
from django.conf import settings

from myctobot.errors import MyctobotError
from myctobot.lib.sql import one_row
from shards.broker_access import redis_acl as broker
from shards.broker_access.lock import one_at_a_time
from shards.lifecycle.transitions import move
from shards.models.resources import resources_of
from shards.models.shard import Shard, ShardState
from shards.operations.configure import configure_shard
from shards.operations.enrolment import issue_token
from shards.operations.journal import Abandoned, OperationJournal
from shards.operations.models import Enrolment, Operation
from shards.providers.base import CLEAN, ContainerSpec, ContainerState, Provider
from shards.providers.errors import ProviderError
from shards.providers.registry import provider

log = structlog.get_logger(__name__)

_LOOK_EVERY_S: Final = 0.2


class NotHeardOf(ProviderError):
    """The container runs, and its worker does not report; look at its log."""

    code = "not_heard_of"


def provision(operation: Operation, journal: OperationJournal) -> None:
    """Make a shard's container, have it enrol, and wait until it is ready; what was made goes when that fails."""
    shard, by = operation.shard, operation.requested_by
    maker = provider(shard.provider)
    move(shard, ShardState.PROVISIONING, reason="being made", by=by)
    try:
        environment = _environment(shard, issue_token(shard, by=by))
        journal.step(f"create the container with {shard.provider}")
        ref = maker.create(_spec(shard, environment if maker.features.environment else {}), journal)
        Shard.objects.filter(pk=shard.pk).update(provider_ref=ref, is_used=False)
        _bring_up(shard, maker, ref, environment, journal)
    except Abandoned:
        # Whoever gave it up removes what there is.
        raise
    except Exception as error:
        _undo(shard, maker, journal, error)
        raise
    _settle(shard, "made and heard of", by)


def recycle(operation: Operation, journal: OperationJournal) -> None:
    """Make a shard's container anew: nothing of what ran there stays, and what it knew opens nothing any more."""
    shard, by = operation.shard, operation.requested_by
    maker, ref = provider(shard.provider), shard.provider_ref
    move(shard, ShardState.PROVISIONING, reason="being made anew", by=by)
    _forget(shard, journal)
    environment = _environment(shard, issue_token(shard, by=by))
    if maker.features.snapshots and maker.features.environment:
        journal.step("stop it, and go back to what it was before it ever ran")
        maker.stop(ref, journal, timeout_s=0)
        maker.restore(ref, CLEAN, journal)
        maker.set_environment(ref, environment)
    else:
        journal.step("destroy it, and make another")
        maker.destroy(ref, journal)
        ref = maker.create(_spec(shard, environment if maker.features.environment else {}), journal)
        Shard.objects.filter(pk=shard.pk).update(provider_ref=ref)
    # Nothing of a job is left in it, and nothing has run there since.
    Shard.objects.filter(pk=shard.pk).update(is_used=False)
    _bring_up(shard, maker, ref, environment, journal)
    _settle(shard, "made anew", by)


def start(operation: Operation, journal: OperationJournal) -> None:
    """Start a container that was stopped, and wait until its shard is heard of."""
    shard = operation.shard
    since = _now()
    provider(shard.provider).start(shard.provider_ref, journal)
    _await_heartbeat(shard, since, journal)
    _settle(shard, "started", operation.requested_by)


def stop(operation: Operation, journal: OperationJournal) -> None:
    """Stop the container; the shard keeps its place."""
    shard = operation.shard
    provider(shard.provider).stop(shard.provider_ref, journal)
    move(shard, ShardState.STOPPED, reason="stopped by an operator", by=operation.requested_by)


def restart(operation: Operation, journal: OperationJournal) -> None:
    """Stop and start the container."""
    shard, maker = operation.shard, provider(operation.shard.provider)
    maker.stop(shard.provider_ref, journal)
    since = _now()
    maker.start(shard.provider_ref, journal)
    _await_heartbeat(shard, since, journal)
    _settle(shard, "restarted", operation.requested_by)


def snapshot(operation: Operation, journal: OperationJournal) -> None:
    """Keep the container's present state under a label."""
    shard = operation.shard
    since = _now()
    maker = provider(shard.provider)
    was = maker.status(shard.provider_ref).state
    maker.snapshot(shard.provider_ref, operation.arguments["label"], journal)
    if was is ContainerState.RUNNING:
        maker.start(shard.provider_ref, journal)
        _await_heartbeat(shard, since, journal)
        _settle(shard, "kept as a snapshot", operation.requested_by)
    else:
        move(shard, ShardState.STOPPED, reason="kept as a snapshot", by=operation.requested_by)


def restore(operation: Operation, journal: OperationJournal) -> None:
    """Go back to a snapshot, and enrol anew: the key in the snapshot may be an old one."""
    shard, maker = operation.shard, provider(operation.shard.provider)
    ref, by = shard.provider_ref, operation.requested_by
    maker.stop(ref, journal)
    maker.restore(ref, operation.arguments["label"], journal)
    environment = _environment(shard, issue_token(shard, by=by))
    if maker.features.environment:
        maker.set_environment(ref, environment)
    _bring_up(shard, maker, ref, environment, journal)
    _settle(shard, "went back to a snapshot", by)


def destroy(operation: Operation, journal: OperationJournal) -> None:
    """Remove the container and all that it could have used."""
    shard = operation.shard
    if shard.provider_ref:
        provider(shard.provider).destroy(shard.provider_ref, journal)
    _forget(shard, journal)
    Shard.objects.filter(pk=shard.pk).update(provider_ref="", is_spare=False)
    move(shard, ShardState.GONE, reason="destroyed", by=operation.requested_by)


FLOWS: Final[dict[str, Callable[[Operation, OperationJournal], None]]] = {
    "provision": provision,
    "recycle": recycle,
    "start": start,
    "stop": stop,
    "restart": restart,
    "snapshot": snapshot,
    "restore": restore,
    "destroy": destroy,
}


def _spec(shard: Shard, environment: Mapping[str, str]) -> ContainerSpec:
    resources = resources_of(shard)
    return ContainerSpec(
        name=shard.name,
        image=shard.template.image if shard.template else "",
        cpus=resources.cpus,
        memory_mb=resources.memory_mb,
        disk_mb=resources.disk_mb,
        processes=resources.processes,
        environment=environment,
    )


def _environment(shard: Shard, token: str) -> dict[str, str]:
    return {
        "MYCTOBOT_CONTROL_URL": settings.SHARD_CONTROL_URL,
        "MYCTOBOT_SHARD": shard.name,
        "MYCTOBOT_ENROL_TOKEN": token,
    }


def _bring_up(
    shard: Shard, maker: Provider, ref: str, environment: Mapping[str, str], journal: OperationJournal
) -> None:
    since = _now()
    journal.step("start it")
    maker.start(ref, journal)
    if not maker.features.environment:
        configure_shard(maker, ref, environment, journal)
    journal.step("wait until it has enrolled")
    _await(lambda: Enrolment.objects.filter(shard=shard, used_at__gte=since).exists(), journal, "it has not enrolled")
    _await_heartbeat(shard, since, journal)


def _await_heartbeat(shard: Shard, since: datetime, journal: OperationJournal) -> None:
    journal.step("wait until its worker reports")
    _await(
        lambda: Shard.objects.filter(pk=shard.pk, last_heartbeat_at__gte=since).exists(),
        journal,
        "its worker has not reported",
    )


def _await(is_so: Callable[[], bool], journal: OperationJournal, what: str) -> None:
    deadline = time.monotonic() + settings.SHARD_READY_TIMEOUT_S
    while not is_so():
        if time.monotonic() > deadline:
            raise NotHeardOf(f"The container runs, but {what} within {settings.SHARD_READY_TIMEOUT_S} s.")
        time.sleep(_LOOK_EVERY_S)


def _settle(shard: Shard, reason: str, by: str) -> None:
    """A drain that is still open goes on; else it takes jobs again."""
    drained = shard.closures.filter(reopened_at=None).exists()
    move(shard, ShardState.DRAINING if drained else ShardState.READY, reason=reason, by=by)


def _undo(shard: Shard, maker: Provider, journal: OperationJournal, error: Exception) -> None:
    """Leave nothing of a container that could not be made; what cannot be removed stays on record."""
    why = error.message if isinstance(error, MyctobotError) else f"{type(error).__name__}: {error}"
    log.warning("provision.failed", shard=shard.name, error=why)
    shard.refresh_from_db()
    if shard.provider_ref:
        journal.step("it failed; remove what was made")
        try:
            maker.destroy(shard.provider_ref, journal)
        except ProviderError as left:
            # It stays on record, so that it can be destroyed later.
            move(shard, ShardState.STOPPED, reason=f"{why} What was made could not be removed: {left.message}")
            return
    _forget(shard, journal)
    Shard.objects.filter(pk=shard.pk).update(provider_ref="")
    move(shard, ShardState.REQUESTED, reason=why)


def _forget(shard: Shard, journal: OperationJournal) -> None:
    """End all that a shard was given: its key, its tokens and its broker user."""
    journal.step("end its key and its broker user")
    with one_at_a_time():
        Enrolment.objects.filter(shard=shard).delete()
        Shard.objects.filter(pk=shard.pk).update(
            key_hash=None, broker_password_hash=None, last_heartbeat_at=None, steady_since=None, report={}
        )
        broker.revoke(shard.name)


def _now() -> datetime:
    """The database's clock, which heartbeats and enrolments are stamped by."""
    (now,) = one_row("SELECT clock_timestamp()", []) or (None,)
    assert isinstance(now, datetime)  # noqa: S101  # a statement without a table has one row
    return now
