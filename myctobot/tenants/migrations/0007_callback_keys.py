"""Seal the secrets of callbacks with keys of their own, so that who signs callbacks opens no other secret."""

from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import migrations

from myctobot.lib.crypto import CannotUnseal, Sealer
from myctobot.tenants.secrets import callback_sealer, sealer


def _seal_again(apps: Any, before: Any, after: Any) -> None:
    rows = apps.get_model("tenants", "CallbackSecret").objects
    if not rows.exists():
        return
    if not settings.SECRETS_KEYS:
        raise ImproperlyConfigured("This migration seals secrets of callbacks again: set SECRETS_KEYS for it.")
    old: Sealer = before()
    new: Sealer = after()
    for row in rows.select_for_update():
        binding = f"callbacks:{row.tenant_id}"
        try:
            row.sealed = new.seal(old.unseal(row.sealed, bound_to=binding), bound_to=binding)
        except CannotUnseal:
            # Its key is gone, so it signs nothing; the tenant can rotate it.
            continue
        row.save(update_fields=["sealed"])


def use_own_keys(apps: Any, schema_editor: Any) -> None:
    """Seal with the keys of callbacks."""
    _seal_again(apps, sealer, callback_sealer)


def use_common_keys(apps: Any, schema_editor: Any) -> None:
    """Seal with ``SECRETS_KEYS``, as the earlier release did."""
    _seal_again(apps, callback_sealer, sealer)


class Migration(migrations.Migration):
    dependencies = [
        ("tenants", "0006_repository_policies"),
    ]

    operations = [migrations.RunPython(use_own_keys, use_common_keys)]
