"""Storing and reading tenants' secrets; the only code that seals and unseals."""

from __future__ import annotations

from functools import lru_cache

from django.conf import settings

from myctobot.errors import InvalidRequest
from myctobot.lib.crypto import Sealer
from myctobot.tenants.models import Secret, Tenant


class UnknownSecret(InvalidRequest):
    """The tenant has no secret of that name."""

    code = "unknown_secret"


@lru_cache(maxsize=4)
def _sealer_for(keys: tuple[str, ...]) -> Sealer:
    return Sealer(keys)


def sealer() -> Sealer:
    """The sealer with the keys of ``SECRETS_KEYS``.

    Raises:
        ValueError: the setting is empty or malformed.
    """
    return _sealer_for(tuple(settings.SECRETS_KEYS))


def secret_binding(tenant_id: int, name: str) -> str:
    """What a stored secret is bound to: one row cannot stand in for another."""
    return f"tenant:{tenant_id}:{name}"


def store_secret(tenant: Tenant, name: str, value: str) -> Secret:
    """Store or replace the tenant's secret ``name``."""
    sealed = sealer().seal({"value": value}, bound_to=secret_binding(tenant.pk, name))
    row, _ = Secret.objects.update_or_create(tenant=tenant, name=name, defaults={"sealed": sealed})
    return row


def read_secret(tenant_id: int, name: str) -> str:
    """Return the value of a stored secret.

    Raises:
        UnknownSecret: there is none of that name (any more).
        CannotUnseal: its key is gone.
    """
    row = Secret.objects.filter(tenant_id=tenant_id, name=name).first()
    if row is None:
        raise UnknownSecret(f"The tenant has no secret named '{name}'; store it first, or give the value itself.")
    value: str = sealer().unseal(row.sealed, bound_to=secret_binding(tenant_id, name))["value"]
    return value
