"""Procedures: the steps of each kind of operation."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Final

import structlog
from django.conf import settings

from myctobot.errors import MyctobotError
from myctobot.lib.sql import fetch_one
from shards.broker_access import redis_acl as broker
from shards.broker_access.lock import one_at_a_time
from shards.lifecycle.transitions import transition
from shards.models import Shard, ShardState
from shards.models.resources import resources_of
from shards.operations.configure import configure_shard
from shards.operations.enrolment import issue_token
from shards.operations.journal import Abandoned, OperationJournal
from shards.operations.models import Enrolment, Operation
from shards.operations.secure_links import require_secure_links
from shards.providers.base import CLEAN, ContainerSpec, ContainerState, Provider
from shards.providers.errors import ProviderError
from shards.providers.registry import provider

log = structlog.get_logger(__name__)

_POLL_EVERY_S: Final = 0.2


class NoReport(ProviderError):
    """The container runs, but its worker does not report; check its log."""

    code = "no_report"


def provision(operation: Operation, journal: OperationJournal) -> None:
    """Create a shard's container and wait until it has enrolled and reports; remove the container on a failure."""
    shard, by = operation.shard, operation.requested_by
    maker = provider(shard.provider)
    transition(shard, ShardState.PROVISIONING, reason="provisioning", by=by)
    try:
        environment = _environment(shard, issue_token(shard, by=by))
        journal.step(f"create the container with {shard.provider}")
        ref = maker.create(_spec(shard, environment if maker.features.environment else {}), journal)
        Shard.objects.filter(pk=shard.pk).update(provider_ref=ref, is_used=False)
        _bring_up(shard, maker, ref, environment, journal)
    except Abandoned:
        # The sweep that abandoned the operation requests the removal.
        raise
    except Exception as error:
        _roll_back(shard, maker, journal, error)
        raise
    _return_to_service(shard, "provisioned", by)


def recycle(operation: Operation, journal: OperationJournal) -> None:
    """Re-create a shard's container: remove every trace of its jobs and revoke its credentials."""
    shard, by = operation.shard, operation.requested_by
    maker, ref = provider(shard.provider), shard.provider_ref
    transition(shard, ShardState.PROVISIONING, reason="recycling", by=by)
    _revoke_access(shard, journal)
    environment = _environment(shard, issue_token(shard, by=by))
    if maker.features.snapshots and maker.features.environment:
        journal.step("stop the container and restore its first snapshot")
        maker.stop(ref, journal, timeout_s=0)
        maker.restore(ref, CLEAN, journal)
        maker.set_environment(ref, environment)
    else:
        journal.step("destroy the container and create another one")
        maker.destroy(ref, journal)
        ref = maker.create(_spec(shard, environment if maker.features.environment else {}), journal)
        Shard.objects.filter(pk=shard.pk).update(provider_ref=ref)
    # The container is clean now, and has not started yet.
    Shard.objects.filter(pk=shard.pk).update(is_used=False)
    _bring_up(shard, maker, ref, environment, journal)
    _return_to_service(shard, "re-created", by)


def start(operation: Operation, journal: OperationJournal) -> None:
    """Start a stopped container and wait until its shard reports."""
    shard = operation.shard
    since = _now()
    provider(shard.provider).start(shard.provider_ref, journal)
    _await_heartbeat(shard, since, journal)
    _return_to_service(shard, "started", operation.requested_by)


def stop(operation: Operation, journal: OperationJournal) -> None:
    """Stop the container; the shard keeps it."""
    shard = operation.shard
    provider(shard.provider).stop(shard.provider_ref, journal)
    transition(shard, ShardState.STOPPED, reason="stopped by an operator", by=operation.requested_by)


def restart(operation: Operation, journal: OperationJournal) -> None:
    """Stop and start the container."""
    shard, maker = operation.shard, provider(operation.shard.provider)
    maker.stop(shard.provider_ref, journal)
    since = _now()
    maker.start(shard.provider_ref, journal)
    _await_heartbeat(shard, since, journal)
    _return_to_service(shard, "restarted", operation.requested_by)


def snapshot(operation: Operation, journal: OperationJournal) -> None:
    """Take a snapshot of the container under a label."""
    shard = operation.shard
    since = _now()
    maker = provider(shard.provider)
    was = maker.status(shard.provider_ref).state
    maker.snapshot(shard.provider_ref, operation.arguments["label"], journal)
    if was is ContainerState.RUNNING:
        maker.start(shard.provider_ref, journal)
        _await_heartbeat(shard, since, journal)
        _return_to_service(shard, "snapshot taken", operation.requested_by)
    else:
        transition(shard, ShardState.STOPPED, reason="snapshot taken", by=operation.requested_by)


def restore(operation: Operation, journal: OperationJournal) -> None:
    """Restore a snapshot and enrol the shard again, because the key in the snapshot may be an old one."""
    shard, maker = operation.shard, provider(operation.shard.provider)
    ref, by = shard.provider_ref, operation.requested_by
    maker.stop(ref, journal)
    maker.restore(ref, operation.arguments["label"], journal)
    environment = _environment(shard, issue_token(shard, by=by))
    if maker.features.environment:
        maker.set_environment(ref, environment)
    _bring_up(shard, maker, ref, environment, journal)
    _return_to_service(shard, "snapshot restored", by)


def destroy(operation: Operation, journal: OperationJournal) -> None:
    """Remove the container and revoke its credentials."""
    shard = operation.shard
    if shard.provider_ref:
        provider(shard.provider).destroy(shard.provider_ref, journal)
    _revoke_access(shard, journal)
    Shard.objects.filter(pk=shard.pk).update(provider_ref="", is_spare=False)
    transition(shard, ShardState.GONE, reason="destroyed", by=operation.requested_by)


PROCEDURES: Final[dict[str, Callable[[Operation, OperationJournal], None]]] = {
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
    environment = {
        "MYCTOBOT_CONTROL_URL": settings.SHARD_CONTROL_URL,
        "MYCTOBOT_SHARD": shard.name,
        "MYCTOBOT_ENROL_TOKEN": token,
    }
    if plain := require_secure_links(shard):
        environment["MYCTOBOT_PLAIN_NETWORKS"] = ",".join(plain)
    return environment


def _bring_up(
    shard: Shard, maker: Provider, ref: str, environment: Mapping[str, str], journal: OperationJournal
) -> None:
    since = _now()
    journal.step("start the container")
    maker.start(ref, journal)
    if not maker.features.environment:
        configure_shard(maker, ref, environment, journal)
    journal.step("wait for its enrolment")
    _await(lambda: Enrolment.objects.filter(shard=shard, used_at__gte=since).exists(), journal, "it has not enrolled")
    _await_heartbeat(shard, since, journal)


def _await_heartbeat(shard: Shard, since: datetime, journal: OperationJournal) -> None:
    journal.step("wait for its heartbeat")
    _await(
        lambda: Shard.objects.filter(pk=shard.pk, last_heartbeat_at__gte=since).exists(),
        journal,
        "its worker has not reported",
    )


def _await(is_met: Callable[[], bool], journal: OperationJournal, problem: str) -> None:
    deadline = time.monotonic() + settings.SHARD_READY_TIMEOUT_S
    while not is_met():
        if time.monotonic() > deadline:
            raise NoReport(f"The container runs, but {problem} within {settings.SHARD_READY_TIMEOUT_S} s.")
        time.sleep(_POLL_EVERY_S)


def _return_to_service(shard: Shard, reason: str, by: str) -> None:
    """Let the shard take jobs again, or continue its drain."""
    drained = shard.suspensions.filter(resumed_at=None).exists()
    transition(shard, ShardState.DRAINING if drained else ShardState.READY, reason=reason, by=by)


def _roll_back(shard: Shard, maker: Provider, journal: OperationJournal, error: Exception) -> None:
    """Remove a container that could not be provisioned; keep its reference if the removal fails."""
    problem = error.message if isinstance(error, MyctobotError) else f"{type(error).__name__}: {error}"
    log.warning("provision.failed", shard=shard.name, error=problem)
    shard.refresh_from_db()
    if shard.provider_ref:
        journal.step("provisioning failed; remove the container")
        try:
            maker.destroy(shard.provider_ref, journal)
        except ProviderError as left:
            # Keep the reference, so that the container can be destroyed later.
            transition(
                shard, ShardState.STOPPED, reason=f"{problem} Its container could not be removed: {left.message}"
            )
            return
    _revoke_access(shard, journal)
    Shard.objects.filter(pk=shard.pk).update(provider_ref="")
    transition(shard, ShardState.REQUESTED, reason=problem)


def _revoke_access(shard: Shard, journal: OperationJournal) -> None:
    """Revoke a shard's key, enrolment tokens and broker user."""
    journal.step("revoke its key and its broker user")
    with one_at_a_time():
        Enrolment.objects.filter(shard=shard).delete()
        Shard.objects.filter(pk=shard.pk).update(
            key_hash=None, broker_password_hash=None, last_heartbeat_at=None, steady_since=None, report={}
        )
        broker.revoke(shard.name)


def _now() -> datetime:
    """Return the database's time, which heartbeats and enrolments also use."""
    (now,) = fetch_one("SELECT clock_timestamp()", []) or (None,)
    assert isinstance(now, datetime)  # noqa: S101  # a statement without a table has one row
    return now
