"""What callbacks are signed with (https://www.standardwebhooks.com); one that was rotated signs for a day still."""

from __future__ import annotations

import base64
import secrets
from datetime import UTC, datetime, timedelta

from django.db import transaction
from standardwebhooks import Webhook

from myctobot.lib.clock import database_now
from myctobot.lib.crypto import CannotUnseal
from myctobot.tenants.models import CallbackSecret, Tenant
from myctobot.tenants.secrets import sealer

KEPT_FOR = timedelta(days=1)


def secret_of(tenant: Tenant) -> str:
    """Return the tenant's present secret, which is made when there is none."""
    return _secrets(tenant)[0]


@transaction.atomic
def rotate(tenant: Tenant) -> str:
    """Make a new secret and return it; the one before signs beside it for a day, if it can still be read."""
    try:
        before = secret_of(tenant)
    except CannotUnseal:
        before = ""
    fresh = _new()
    sealed = _seal(tenant, fresh, before)
    CallbackSecret.objects.filter(tenant=tenant).update(sealed=sealed, rotated_at=database_now())
    return fresh


def headers(tenant: Tenant, message_id: str, body: str) -> dict[str, str]:
    """The three headers of a callback that is sent now."""
    now = datetime.now(UTC)
    signatures = [Webhook(secret).sign(message_id, now, body) for secret in _secrets(tenant)]
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": " ".join(signatures),
    }


def _secrets(tenant: Tenant) -> list[str]:
    row, _ = CallbackSecret.objects.get_or_create(tenant=tenant, defaults={"sealed": _seal(tenant, _new(), "")})
    values = sealer().unseal(row.sealed, bound_to=_binding(tenant))
    found = [str(values["value"])]
    if values["previous"] and row.rotated_at and database_now() - row.rotated_at < KEPT_FOR:
        found.append(str(values["previous"]))
    return found


def _new() -> str:
    return f"whsec_{base64.b64encode(secrets.token_bytes(32)).decode()}"


def _binding(tenant: Tenant) -> str:
    return f"callbacks:{tenant.pk}"


def _seal(tenant: Tenant, secret: str, previous: str) -> str:
    return sealer().seal({"value": secret, "previous": previous}, bound_to=_binding(tenant))
