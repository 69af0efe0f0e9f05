"""What operators do to shards on record: add, change, remove, assign; each is checked, written down and explained.

Panel and API are thin above it. What is done to a shard's *container* is in ``shards.operations``, and taking it out of
dispatch in ``shards.lifecycle.suspensions``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import ProtectedError

from myctobot.contract.jobs import HEARTBEAT_EVERY_S
from myctobot.errors import InvalidRequest
from myctobot.tenants.audit import differences, record
from myctobot.tenants.models import Tenant
from shards.autoscaling.warm_spares import hint_refresh, hint_takeover
from shards.broker_access import redis_acl as broker
from shards.broker_access.lock import one_at_a_time
from shards.errors import ShardInUse, WrongState
from shards.inventory.mcp_servers import problems_of, without_values
from shards.models.resources import spec_problems
from shards.models.shard import Assignment, Shard, ShardState, ShardTemplate
from shards.operations.models import LIVE_OPERATIONS, OperationKind, OperationState
from shards.providers import registry
from shards.providers.base import CLEAN

# Words of the API's addresses, which a shard's name would hide.
RESERVED: Final = frozenset({"preview"})
_FACTS: Final = (
    "description", "shard_type", "capabilities", "mcp_servers", "resource_spec", "provider", "max_concurrent_jobs",
    "is_active",
)  # fmt: skip


@dataclass(frozen=True)
class Right:
    """A tenant's right to a shard; the lower the priority's number, the sooner the shard is chosen for it."""

    tenant: Tenant
    priority: int = 100
    is_default: bool = False


def facts_of_template(template: ShardTemplate) -> dict[str, Any]:
    """What a new shard takes over from its template; MCP servers and resources stay there, and are joined later."""
    return {
        "shard_type": template.shard_type,
        "capabilities": list(template.capabilities),
        "max_concurrent_jobs": template.max_concurrent_jobs,
    }


@transaction.atomic
def add(shard: Shard, *, by: str) -> Shard:
    """Put a new shard on record; nothing is made for it yet.

    Raises:
        InvalidRequest: with what is wrong, by field.
    """
    check(shard)
    shard.save()
    record(by, "shard.created", f"shard/{shard.name}", _facts(shard))
    return shard


def change(shard: Shard, *, by: str) -> list[str]:
    """Save a shard that was changed, and say in sentences what follows from it for one that lives.

    Raises:
        InvalidRequest: with what is wrong, by field.
        BrokerUnreachable: its rights at the broker could not follow; nothing is changed.
    """
    # Before the shard's row, as an enrolment does: else each could wait for the other.
    with one_at_a_time():
        return _change(shard, by)


def _change(shard: Shard, by: str) -> list[str]:
    before = Shard.objects.select_for_update(of=("self",)).select_related("pool", "template").get(pk=shard.pk)
    shard.name = before.name
    if before.provider_ref and shard.provider != before.provider:
        problem = f"Its container is at “{before.provider}”; destroy it there first."
        raise InvalidRequest(fields={"provider": [problem]})
    check(shard)
    changed = differences(_facts(before), _facts(shard))
    shard.save(update_fields=[*_FACTS, "pool", "template", "shard_class"])
    if not changed:
        return []
    transaction.on_commit(partial(hint_refresh, shard.name), robust=True)
    record(by, "shard.changed", f"shard/{shard.name}", changed)
    if shard.broker_password_hash and shard.queues != before.queues:
        # In this transaction: a shard that may not read its new queues would take no job at all.
        broker.grant(shard.name, shard.queues, shard.broker_password_hash)
    return list(_consequences(before, shard)) if before.last_heartbeat_at else []


@transaction.atomic
def remove(shard: Shard, *, by: str) -> None:
    """Take a shard off the record, with its history; the audit log stays.

    Raises:
        ShardInUse: there is a container of it, or it still reports.
    """
    shard = Shard.objects.select_for_update().get(pk=shard.pk)
    if (why := why_not_remove(shard)) is not None:
        raise ShardInUse(why)
    name = shard.name
    try:
        shard.delete()
    except ProtectedError as error:
        raise ShardInUse(f"Shard {name} is still referred to: {error.args[0]}") from error
    record(by, "shard.removed", f"shard/{name}")


def why_not_remove(shard: Shard) -> str | None:
    """Say what has to be done before a shard can be removed, or None when nothing has."""
    if shard.provider_ref:
        return f"Shard {shard.name} has a container at “{shard.provider}” ({shard.provider_ref}): destroy it first."
    if shard.operations.filter(state__in=LIVE_OPERATIONS).exists():
        return f"Something is being done with shard {shard.name}: wait until it is done."
    if shard.state in (ShardState.READY, ShardState.DRAINING) and shard.last_heartbeat_at is not None:
        return f"Shard {shard.name} is {shard.state} and reports: stop its worker, and wait until it counts as lost."
    return None


@transaction.atomic
def assign(shard: Shard, rights: Iterable[Right], *, by: str) -> None:
    """Let exactly these tenants use a shard.

    Raises:
        InvalidRequest: a tenant stands there twice, or has its default elsewhere.
    """
    rights = list(rights)
    if len({right.tenant.pk for right in rights}) != len(rights):
        raise InvalidRequest(fields={"assignments": ["A tenant stands there twice."]})
    before = _rights(shard)
    for right in rights:
        elsewhere = Assignment.objects.filter(tenant=right.tenant, is_default=True).exclude(shard=shard)
        if right.is_default and (other := elsewhere.select_related("shard", "pool").first()):
            problem = f"Tenant {right.tenant} has its default at {other.shard or other.pool} already."
            raise InvalidRequest(fields={"assignments": [problem]})
    Assignment.objects.filter(shard=shard).delete()
    Assignment.objects.bulk_create(
        Assignment(shard=shard, tenant=right.tenant, priority=right.priority, is_default=right.is_default)
        for right in rights
    )
    after = _rights(shard)
    if before != after:
        record(by, "shard.assigned", f"shard/{shard.name}", {"assignments": {"was": before, "is": after}})


@transaction.atomic
def activate(shard: Shard, *, by: str) -> None:
    """Let a spare take jobs: its worker hears of it with its next heartbeat.

    Raises:
        WrongState: it is no spare.
    """
    if not Shard.objects.filter(pk=shard.pk, is_spare=True).update(is_spare=False):
        raise WrongState(f"Shard {shard.name} is no spare.")
    shard.is_spare = False
    record(by, "shard.activated", f"shard/{shard.name}")
    transaction.on_commit(partial(hint_takeover, shard.name), robust=True)


def snapshots(shard: Shard) -> list[str]:
    """Labels of what its container can go back to, newest first."""
    if not shard.provider or not registry.provider(shard.provider).features.snapshots:
        return []
    made = shard.operations.filter(state=OperationState.DONE)
    born = made.filter(kind=OperationKind.PROVISION).order_by("-pk").values_list("pk", flat=True).first()
    taken = made.filter(kind=OperationKind.SNAPSHOT, pk__gt=born or 0).order_by("-pk")
    labels = [str(arguments.get("label")) for arguments in taken.values_list("arguments", flat=True)[:200]]
    return list(dict.fromkeys([*labels, CLEAN]))


def check(shard: Shard) -> None:
    """Refuse a shard that would not work.

    Raises:
        InvalidRequest: with what is wrong, by field.
    """
    problems = {name: found for name, found in _problems(shard).items() if found}
    try:
        # The class is derived on saving.
        shard.full_clean(exclude=["shard_class", "report", *problems])
    except ValidationError as error:
        problems = {**error.message_dict, **problems}
    if problems:
        raise InvalidRequest(fields=problems)


def _problems(shard: Shard) -> Mapping[str, list[str]]:
    unknown = shard.provider and shard.provider not in registry.names()
    known = ", ".join(registry.names())
    return {
        "name": [f"“{shard.name}” is an address of the API; choose another name."] if shard.name in RESERVED else [],
        "provider": [f"There is no provider “{shard.provider[:60]}”; there are: {known}."] if unknown else [],
        "capabilities": [] if shard.capabilities else ["Name at least one capability, such as git."],
        "mcp_servers": problems_of(shard.mcp_servers),
        "resource_spec": spec_problems(shard.resource_spec),
    }


def _facts(shard: Shard) -> dict[str, Any]:
    """What operators say of a shard, for the audit log."""
    facts = {name: getattr(shard, name) for name in _FACTS}
    facts["capabilities"] = sorted(set(shard.capabilities))
    facts["mcp_servers"] = without_values(shard.mcp_servers)
    return {
        **facts,
        "pool": shard.pool.name if shard.pool else None,
        "template": shard.template.name if shard.template else None,
    }


def _rights(shard: Shard) -> list[dict[str, Any]]:
    rows = Assignment.objects.filter(shard=shard).order_by("priority", "tenant__slug")
    return [
        {"tenant": slug, "priority": priority, "is_default": default}
        for slug, priority, default in rows.values_list("tenant__slug", "priority", "is_default")
    ]


def _consequences(before: Shard, after: Shard) -> Iterable[str]:
    soon = f"with its next heartbeat, within {HEARTBEAT_EVERY_S:g} s"
    if after.queues != before.queues:
        yield (
            f"Its queue is {after.queues[0]} now: the worker follows {soon}. What is under way to the old queue "
            "goes to other shards of that class, or is sent anew."
        )
    if set(after.capabilities) != set(before.capabilities) or after.mcp_servers != before.mcp_servers:
        yield (
            "Its own config.json still says what it said when the shard enrolled: make the shard anew, or change it "
            "there. “Test connectivity” shows the differences."
        )
    if after.max_concurrent_jobs > before.max_concurrent_jobs:
        reported = before.report.get("slots", "?")
        yield f"It takes more jobs at once only up to what its config.json allows: {reported}."
    if after.max_concurrent_jobs < before.max_concurrent_jobs:
        yield "Jobs that run go on; it gets no new ones until fewer run than its slots."
    if after.resource_spec != before.resource_spec or after.template_id != before.template_id:
        yield "Its container has what it was made with, until it is made anew."
    if before.is_active and not after.is_active:
        yield "It gets no new jobs; what runs goes on."
