"""Tenants' stored secrets."""

from __future__ import annotations

from django.conf import settings

from myctobot.errors import InvalidRequest
from myctobot.lib.crypto import Sealer
from myctobot.tenants.models import Secret, Tenant


class UnknownSecret(InvalidRequest):
    """The tenant has no secret of that name."""

    code = "unknown_secret"


def sealer() -> Sealer:
    """Return the sealer with the keys of ``SECRETS_KEYS``.

    Raises:
        ValueError: the setting is empty or malformed.
    """
    return Sealer(settings.SECRETS_KEYS)


def secret_binding(tenant_id: int, name: str) -> str:
    """Return the binding of a stored secret, so that no other row can use its sealed value."""
    return f"tenant:{tenant_id}:{name}"


def store_secret(tenant: Tenant, name: str, value: str) -> Secret:
    """Store or replace the tenant's secret ``name``."""
    sealed = sealer().seal({"value": value}, bound_to=secret_binding(tenant.pk, name))
    row, _ = Secret.objects.update_or_create(tenant=tenant, name=name, defaults={"sealed": sealed})
    return row


def read_secret(tenant_id: int, name: str) -> str:
    """Return the value of a stored secret.

    Raises:
        UnknownSecret: no secret has this name.
        CannotUnseal: no current key opens it.
    """
    row = Secret.objects.filter(tenant_id=tenant_id, name=name).first()
    if row is None:
        raise UnknownSecret(f"The tenant has no secret named '{name}'; store it first, or send the value itself.")
    value: str = sealer().unseal(row.sealed, bound_to=secret_binding(tenant_id, name))["value"]
    return value
