"""What is compared with the outside world every minute: users at the broker, containers at providers."""

from __future__ import annotations

import structlog

from myctobot.errors import MyctobotError
from shards.broker_access import server as broker
from shards.broker_access.admission import accesses
from shards.models import Shard
from shards.operations.broker_users import one_at_a_time
from shards.operations.reconciling import reconcile

log = structlog.get_logger(__name__)


def reconcile_all() -> None:
    """Put right what can be put right by itself; one side that is away does not keep the others from it."""
    try:
        with one_at_a_time():
            broker.reconcile(accesses())
    except MyctobotError as error:
        log.warning("reconcile.broker_failed", error=error.message)
    for name in _providers_in_use():
        try:
            reconcile(name, repair=True)
        except MyctobotError as error:
            log.warning("reconcile.provider_failed", provider=name, error=error.message)


def _providers_in_use() -> list[str]:
    return sorted(set(Shard.objects.exclude(provider="").values_list("provider", flat=True)))
