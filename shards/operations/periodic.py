"""Periodic reconciliation of broker users and of the providers' containers."""

from __future__ import annotations

import structlog

from myctobot.errors import MyctobotError
from shards.broker_access import redis_acl as broker
from shards.broker_access.accounts import accounts
from shards.broker_access.lock import one_at_a_time
from shards.models import Pool, Shard
from shards.monitoring.alerts import alert
from shards.operations.reconciler import reconcile
from shards.providers.registry import provider

log = structlog.get_logger(__name__)

# Problems by provider, as of this process's last check.
_known: dict[str, list[str]] = {}


def reconcile_all() -> None:
    """Repair what can be repaired; a failure of one part does not stop the others."""
    try:
        with one_at_a_time():
            broker.reconcile(accounts())
    except MyctobotError as error:
        log.warning("reconcile.broker_failed", error=error.message)
    for name in _providers_in_use():
        try:
            _alert_problems(name)
            reconcile(name, repair=True)
        except MyctobotError as error:
            log.warning("reconcile.provider_failed", provider=name, error=error.message)


def _alert_problems(name: str) -> None:
    """Alert operators when a provider's problems change, for example when its token lacks a right."""
    problems = provider(name).problems()
    if problems == _known.get(name, []):
        return
    _known[name] = problems
    log.warning("provider.problems", provider=name, problems=problems)
    if problems:
        alert("provider.problems", f"The provider {name} has problems", "\n".join(problems), key=name)


def _providers_in_use() -> list[str]:
    """Return the providers that have shards or build them for a pool."""
    of_shards = Shard.objects.exclude(provider="").values_list("provider", flat=True)
    of_pools = Pool.objects.exclude(provider="").values_list("provider", flat=True)
    return sorted({*of_shards, *of_pools})
