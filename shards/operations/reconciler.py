"""Compares what providers have with what the database says; reports differences, or puts them right."""

from __future__ import annotations

import structlog
from django.utils import timezone

from myctobot.tenants.audit import record
from shards.lifecycle.states import GONE, LOST, PROVISIONING, READY, REQUESTED, SUSPECT
from shards.lifecycle.transitions import move
from shards.models.shard import Shard
from shards.operations.drift import Difference, DifferenceKind, Known, compare
from shards.operations.models import LIVE_OPERATIONS, Operation
from shards.providers.base import ContainerState, Silent
from shards.providers.errors import ProviderError
from shards.providers.registry import provider

log = structlog.get_logger(__name__)


def reconcile(provider_name: str, *, repair: bool) -> list[Difference]:
    """Look at one provider.

    Args:
        repair: destroy orphans, and call shards lost whose container is gone.

    Raises:
        ProviderError: it cannot say what it has; nothing is concluded from that.
    """
    maker = provider(provider_name)
    found = maker.list()
    differences = compare(provider_name, found, _known(provider_name), timezone.now())
    for difference in differences:
        log.warning("reconcile.difference", difference=str(difference), repair=repair and difference.may_repair)
        if repair and difference.may_repair:
            _repair(difference)
    return differences


def _known(provider_name: str) -> list[Known]:
    busy = set(Operation.objects.filter(state__in=LIVE_OPERATIONS).values_list("shard_id", flat=True))
    rows = Shard.objects.filter(provider=provider_name).values_list("pk", "name", "provider_ref", "state")
    return [Known(name, ref, state, pk in busy or state == PROVISIONING) for pk, name, ref, state in rows]


def _repair(difference: Difference) -> None:
    """Put one right, after another look: the two sides were not looked at in the same moment."""
    maker = provider(difference.provider)
    is_there = maker.status(difference.ref).state is not ContainerState.GONE
    if difference.kind is DifferenceKind.MISSING:
        if is_there:
            return
        shard = Shard.objects.get(name=difference.name)
        Shard.objects.filter(pk=shard.pk, provider_ref=difference.ref).update(provider_ref="")
        if shard.state not in (REQUESTED, LOST):
            move(shard, SUSPECT if shard.state == READY else LOST, reason="its container is gone")
        record("reconciler", "shard.container_missing", f"shard/{shard.name}", {"ref": difference.ref})
        return
    if not is_there or Shard.objects.filter(provider_ref=difference.ref).exclude(state=GONE).exists():
        return
    try:
        maker.destroy(difference.ref, Silent())
    except ProviderError as error:
        log.warning("reconcile.not_repaired", difference=str(difference), error=error.message)
        return
    record("reconciler", "container.orphan_destroyed", f"container/{difference.ref}", {"name": difference.name})
