"""Inventory of shards: add, change, remove and assign them, with checks and audit entries.

The admin panel and the API call this module. ``shards.operations`` works on containers, and
``shards.lifecycle.suspensions`` takes shards out of dispatch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import ProtectedError

from myctobot.contract.limits import HEARTBEAT_EVERY_S
from myctobot.errors import InvalidRequest
from myctobot.tenants.audit import differences, record
from myctobot.tenants.models import Tenant
from shards.broker_access import redis_acl as broker
from shards.broker_access.lock import one_at_a_time
from shards.errors import DefaultTaken, ShardExists, ShardInUse, WrongState
from shards.inventory.mcp_servers import problems_of, without_values
from shards.models import Assignment, Shard, ShardState, ShardTemplate
from shards.models.resources import spec_problems
from shards.operations.models import LIVE_OPERATIONS, OperationKind, OperationState
from shards.providers import registry
from shards.providers.base import CLEAN
from shards.remote_control import notify_activation, request_refresh

# Path segments of the API, which a shard's name would hide.
RESERVED: Final = frozenset({"preview"})
_FACTS: Final = (
    "description", "shard_type", "capabilities", "mcp_servers", "resource_spec", "provider", "max_concurrent_jobs",
    "is_active",
)  # fmt: skip


@dataclass(frozen=True)
class AssignmentRequest:
    """Request to let a tenant use a shard; the lowest priority number is chosen first."""

    tenant: Tenant
    priority: int = 100
    is_default: bool = False


def facts_of_template(template: ShardTemplate) -> dict[str, Any]:
    """Return the values that a new shard copies from its template; MCP servers and resources are merged later."""
    return {
        "shard_type": template.shard_type,
        "capabilities": list(template.capabilities),
        "max_concurrent_jobs": template.max_concurrent_jobs,
    }


@transaction.atomic
def add(shard: Shard, *, by: str) -> Shard:
    """Add a shard to the inventory, without a container.

    Raises:
        ShardExists: another shard has its name.
        InvalidRequest: lists the problems by field.
    """
    if Shard.objects.filter(name=shard.name).exists():
        raise ShardExists(f"There is a shard '{shard.name}' already; choose another name.")
    check(shard)
    shard.save()
    record(by, "shard.created", f"shard/{shard.name}", _facts(shard))
    return shard


def change(shard: Shard, *, by: str) -> list[str]:
    """Save a changed shard, and return sentences about the consequences for a running shard.

    Raises:
        InvalidRequest: lists the problems by field.
        BrokerUnreachable: its broker user could not be changed; nothing is saved.
    """
    # Take this lock before the row lock, like an enrolment, to avoid a deadlock.
    with one_at_a_time():
        return _change(shard, by)


def _change(shard: Shard, by: str) -> list[str]:
    before = Shard.objects.select_for_update(of=("self",)).select_related("pool", "template").get(pk=shard.pk)
    shard.name = before.name
    if before.provider_ref and shard.provider != before.provider:
        problem = f"Its container belongs to “{before.provider}”; destroy it first."
        raise InvalidRequest(fields={"provider": [problem]})
    check(shard)
    changed = differences(_facts(before), _facts(shard))
    shard.save(update_fields=[*_FACTS, "pool", "template", "shard_class"])
    if not changed:
        return []
    transaction.on_commit(partial(request_refresh, shard.name), robust=True)
    record(by, "shard.changed", f"shard/{shard.name}", changed)
    if shard.broker_password_hash and shard.queues != before.queues:
        # In this transaction, because a shard without rights to its new queues would take no jobs.
        broker.grant(shard.name, shard.queues, shard.broker_password_hash)
    return list(_consequences(before, shard)) if before.last_heartbeat_at else []


@transaction.atomic
def remove(shard: Shard, *, by: str) -> None:
    """Remove a shard and its history from the inventory; its audit entries stay.

    Raises:
        ShardInUse: it has a container, or it still reports.
    """
    shard = Shard.objects.select_for_update().get(pk=shard.pk)
    if (reason := removal_blocked_reason(shard)) is not None:
        raise ShardInUse(reason)
    name = shard.name
    try:
        shard.delete()
    except ProtectedError as error:
        raise ShardInUse(f"Shard {name} is still referenced: {error.args[0]}") from error
    record(by, "shard.removed", f"shard/{name}")


def removal_blocked_reason(shard: Shard) -> str | None:
    """Return the reason why a shard cannot be removed now, or None."""
    if shard.provider_ref:
        return f"Shard {shard.name} has a container of “{shard.provider}” ({shard.provider_ref}): destroy it first."
    if shard.operations.filter(state__in=LIVE_OPERATIONS).exists():
        return f"An operation on shard {shard.name} is in progress: wait until it has ended."
    if shard.state in (ShardState.READY, ShardState.DRAINING) and shard.last_heartbeat_at is not None:
        return f"Shard {shard.name} is {shard.state} and reports: stop its worker, and wait until the shard is lost."
    return None


@transaction.atomic
def assign(shard: Shard, requests: Iterable[AssignmentRequest], *, by: str) -> None:
    """Let exactly these tenants use a shard.

    Raises:
        InvalidRequest: a tenant appears twice.
        DefaultTaken: a tenant has another default.
    """
    requests = list(requests)
    if len({request.tenant.pk for request in requests}) != len(requests):
        raise InvalidRequest(fields={"assignments": ["A tenant appears twice."]})
    before = _assignments(shard)
    for request in requests:
        others = Assignment.objects.filter(tenant=request.tenant, is_default=True).exclude(shard=shard)
        if request.is_default and (other := others.select_related("shard", "pool").first()):
            raise DefaultTaken(f"The default of tenant {request.tenant} is already {other.shard or other.pool}.")
    Assignment.objects.filter(shard=shard).delete()
    Assignment.objects.bulk_create(
        Assignment(shard=shard, tenant=request.tenant, priority=request.priority, is_default=request.is_default)
        for request in requests
    )
    after = _assignments(shard)
    if before != after:
        record(by, "shard.assigned", f"shard/{shard.name}", {"assignments": {"was": before, "is": after}})


@transaction.atomic
def activate(shard: Shard, *, by: str) -> None:
    """Let a warm spare take jobs, and notify its worker.

    Raises:
        WrongState: the shard is not a spare.
    """
    if not Shard.objects.filter(pk=shard.pk, is_spare=True).update(is_spare=False):
        raise WrongState(f"Shard {shard.name} is not a spare.")
    shard.is_spare = False
    record(by, "shard.activated", f"shard/{shard.name}")
    transaction.on_commit(partial(notify_activation, shard.name), robust=True)


def snapshots(shard: Shard) -> list[str]:
    """Return the labels of the container's snapshots, newest first."""
    if not shard.provider or not registry.provider(shard.provider).features.snapshots:
        return []
    done = shard.operations.filter(state=OperationState.DONE)
    provisioned = done.filter(kind=OperationKind.PROVISION).order_by("-pk").values_list("pk", flat=True).first()
    taken = done.filter(kind=OperationKind.SNAPSHOT, pk__gt=provisioned or 0).order_by("-pk")
    labels = [str(arguments.get("label")) for arguments in taken.values_list("arguments", flat=True)[:200]]
    return list(dict.fromkeys([*labels, CLEAN]))


def check(shard: Shard) -> None:
    """Check a shard's values.

    Raises:
        InvalidRequest: lists the problems by field.
    """
    problems = {name: found for name, found in _problems(shard).items() if found}
    try:
        # Saving derives the class.
        shard.full_clean(exclude=["shard_class", "report", *problems])
    except ValidationError as error:
        problems = {**error.message_dict, **problems}
    if problems:
        raise InvalidRequest(fields=problems)


def _problems(shard: Shard) -> Mapping[str, list[str]]:
    unknown = shard.provider and shard.provider not in registry.names()
    known = ", ".join(registry.names())
    return {
        "name": [f"“{shard.name}” is a path of the API; choose another name."] if shard.name in RESERVED else [],
        "provider": [f"There is no provider “{shard.provider[:60]}”; there are: {known}."] if unknown else [],
        "capabilities": [] if shard.capabilities else ["Name at least one capability, such as git."],
        "mcp_servers": problems_of(shard.mcp_servers),
        "resource_spec": spec_problems(shard.resource_spec),
    }


def _facts(shard: Shard) -> dict[str, Any]:
    """Return the values that operators set, for the audit log."""
    facts = {name: getattr(shard, name) for name in _FACTS}
    facts["capabilities"] = sorted(set(shard.capabilities))
    facts["mcp_servers"] = without_values(shard.mcp_servers)
    return {
        **facts,
        "pool": shard.pool.name if shard.pool else None,
        "template": shard.template.name if shard.template else None,
    }


def _assignments(shard: Shard) -> list[dict[str, Any]]:
    rows = Assignment.objects.filter(shard=shard).order_by("priority", "tenant__slug")
    return [
        {"tenant": slug, "priority": priority, "is_default": default}
        for slug, priority, default in rows.values_list("tenant__slug", "priority", "is_default")
    ]


def _consequences(before: Shard, after: Shard) -> Iterable[str]:
    soon = f"with its next heartbeat, within {HEARTBEAT_EVERY_S:g} s"
    if after.queues != before.queues:
        yield (
            f"Its queue is {after.queues[0]} now: the worker follows {soon}. Messages in the old queue go to other "
            "shards of that class, or are sent again."
        )
    if set(after.capabilities) != set(before.capabilities) or after.mcp_servers != before.mcp_servers:
        yield (
            "Its config.json still has the values of its enrolment. Re-create the shard, or edit the file. "
            "“Test connectivity” shows the differences."
        )
    if after.max_concurrent_jobs > before.max_concurrent_jobs:
        reported = before.report.get("slots", "?")
        yield f"Its config.json limits it to this number of jobs at once: {reported}."
    if after.max_concurrent_jobs < before.max_concurrent_jobs:
        yield "Running jobs continue. It gets no new ones until a slot is free."
    if after.resource_spec != before.resource_spec or after.template_id != before.template_id:
        yield "Its container keeps its resources until it is re-created."
    if before.is_active and not after.is_active:
        yield "It gets no new jobs. Running jobs continue."
