"""What is compared with the outside world every minute: users at the broker, containers at providers."""

from __future__ import annotations

import structlog

from myctobot.errors import MyctobotError
from shards.broker_access import redis_acl as broker
from shards.broker_access.accounts import accesses
from shards.broker_access.lock import one_at_a_time
from shards.models.shard import Pool, Shard
from shards.monitoring.alerts import alert
from shards.operations.reconciler import reconcile
from shards.providers.registry import provider

log = structlog.get_logger(__name__)

# By provider: what kept it from working when this process looked last.
_known: dict[str, list[str]] = {}


def reconcile_all() -> None:
    """Put right what can be put right by itself; one side that is away does not keep the others from it."""
    try:
        with one_at_a_time():
            broker.reconcile(accesses())
    except MyctobotError as error:
        log.warning("reconcile.broker_failed", error=error.message)
    for name in _providers_in_use():
        try:
            _tell_problems(name)
            reconcile(name, repair=True)
        except MyctobotError as error:
            log.warning("reconcile.provider_failed", provider=name, error=error.message)


def _tell_problems(name: str) -> None:
    """Say what keeps a provider from working, such as a right that its token lacks: at the start and on a change."""
    problems = provider(name).problems()
    if problems == _known.get(name, []):
        return
    _known[name] = problems
    log.warning("provider.problems", provider=name, problems=problems)
    if problems:
        alert("provider.problems", f"The provider {name} does not work as it should", "\n".join(problems), key=name)


def _providers_in_use() -> list[str]:
    """Those that have shards, or build them for a pool."""
    of_shards = Shard.objects.exclude(provider="").values_list("provider", flat=True)
    of_pools = Pool.objects.exclude(provider="").values_list("provider", flat=True)
    return sorted({*of_shards, *of_pools})
