"""Reconciler: compares a provider's containers with the database, and reports or repairs differences."""

from __future__ import annotations

import structlog
from django.utils import timezone

from myctobot.tenants.audit import record
from shards.lifecycle.states import GONE, LOST, PROVISIONING, READY, REQUESTED, SUSPECT
from shards.lifecycle.transitions import transition
from shards.models import Shard
from shards.operations.drift import DifferenceKind, Drift, KnownContainer, compare
from shards.operations.models import LIVE_OPERATIONS, Operation
from shards.providers.base import ContainerState, NullJournal
from shards.providers.errors import ProviderError
from shards.providers.registry import provider

log = structlog.get_logger(__name__)


def reconcile(provider_name: str, *, repair: bool) -> list[Drift]:
    """Reconcile one provider and return the differences.

    Args:
        repair: destroy orphans, and mark shards as lost whose container is gone.

    Raises:
        ProviderError: the provider cannot list its containers; nothing is changed.
    """
    maker = provider(provider_name)
    found = maker.list()
    differences = compare(provider_name, found, _known(provider_name), timezone.now())
    for difference in differences:
        log.warning("reconcile.difference", difference=str(difference), repair=repair and difference.may_repair)
        if repair and difference.may_repair:
            _repair(difference)
    return differences


def _known(provider_name: str) -> list[KnownContainer]:
    busy = set(Operation.objects.filter(state__in=LIVE_OPERATIONS).values_list("shard_id", flat=True))
    rows = Shard.objects.filter(provider=provider_name).values_list("pk", "name", "provider_ref", "state")
    return [KnownContainer(name, ref, state, pk in busy or state == PROVISIONING) for pk, name, ref, state in rows]


def _repair(difference: Drift) -> None:
    """Repair a difference after checking it again, because the two sides were not read at the same time."""
    maker = provider(difference.provider)
    exists = maker.status(difference.ref).state is not ContainerState.GONE
    if difference.kind is DifferenceKind.MISSING:
        if exists:
            return
        shard = Shard.objects.get(name=difference.name)
        Shard.objects.filter(pk=shard.pk, provider_ref=difference.ref).update(provider_ref="")
        if shard.state not in (REQUESTED, LOST):
            transition(shard, SUSPECT if shard.state == READY else LOST, reason="its container is gone")
        record("reconciler", "shard.container_missing", f"shard/{shard.name}", {"ref": difference.ref})
        return
    if not exists or Shard.objects.filter(provider_ref=difference.ref).exclude(state=GONE).exists():
        return
    try:
        maker.destroy(difference.ref, NullJournal())
    except ProviderError as error:
        log.warning("reconcile.repair_failed", difference=str(difference), error=error.message)
        return
    record("reconciler", "container.orphan_destroyed", f"container/{difference.ref}", {"name": difference.name})
