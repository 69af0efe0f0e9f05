"""Signatures of callbacks (https://www.standardwebhooks.com). A rotated secret stays valid for a day."""

from __future__ import annotations

import base64
import secrets
from datetime import UTC, datetime, timedelta

from django.db import transaction
from standardwebhooks import Webhook

from myctobot.lib.clock import database_now
from myctobot.lib.crypto import CannotUnseal
from myctobot.tenants.models import CallbackSecret, Tenant
from myctobot.tenants.secrets import callback_sealer

KEPT_FOR = timedelta(days=1)


def secret_of(tenant: Tenant) -> str:
    """Return the tenant's current secret; create one if there is none."""
    return _secrets(tenant)[0]


@transaction.atomic
def rotate(tenant: Tenant) -> str:
    """Create a new secret and return it. The previous one, if readable, signs as well for a day."""
    try:
        previous = secret_of(tenant)
    except CannotUnseal:
        previous = ""
    fresh = _new()
    sealed = _seal(tenant, fresh, previous)
    CallbackSecret.objects.filter(tenant=tenant).update(sealed=sealed, rotated_at=database_now())
    return fresh


def headers(tenant: Tenant, message_id: str, body: str) -> dict[str, str]:
    """Return the three headers of a callback that is sent now."""
    now = datetime.now(UTC)
    signatures = [Webhook(secret).sign(message_id, now, body) for secret in _secrets(tenant)]
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": " ".join(signatures),
    }


def _secrets(tenant: Tenant) -> list[str]:
    row, _ = CallbackSecret.objects.get_or_create(tenant=tenant, defaults={"sealed": _seal(tenant, _new(), "")})
    values = callback_sealer().unseal(row.sealed, bound_to=_binding(tenant))
    found = [str(values["value"])]
    if values["previous"] and row.rotated_at and database_now() - row.rotated_at < KEPT_FOR:
        found.append(str(values["previous"]))
    return found


def _new() -> str:
    return f"whsec_{base64.b64encode(secrets.token_bytes(32)).decode()}"


def _binding(tenant: Tenant) -> str:
    return f"callbacks:{tenant.pk}"


def _seal(tenant: Tenant, secret: str, previous: str) -> str:
    return callback_sealer().seal({"value": secret, "previous": previous}, bound_to=_binding(tenant))
