"""Upgrade from the previous release: its stored secrets become unbound, and secrets of callbacks get other keys."""

from __future__ import annotations

import pytest
from cryptography.fernet import Fernet
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from pytest_django.fixtures import Settings

from jobs.callbacks import signing
from myctobot.lib.crypto import CannotUnseal
from myctobot.tenants.models import CallbackSecret, Secret
from myctobot.tenants.secret_bindings import UNBOUND
from myctobot.tenants.secrets import sealer
from tests.factories.control_plane import make_tenant

pytestmark = pytest.mark.django_db(transaction=True)


def store_as_before(tenant_id: int, name: str) -> None:
    """Store a row as the previous release does, which knows no binding."""
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO tenants_secret (tenant_id, name, sealed, updated_at) VALUES (%s, %s, 'v1', now())",
            [tenant_id, name],
        )


def test_secrets_of_the_previous_release_are_unbound() -> None:
    tenant = make_tenant()
    latest = MigrationExecutor(connection).loader.graph.leaf_nodes()
    MigrationExecutor(connection).migrate([("tenants", "0004_audit")])
    try:
        store_as_before(tenant.pk, "before")
    finally:
        MigrationExecutor(connection).migrate(latest)
    # A process of the previous release may still run after the migration.
    store_as_before(tenant.pk, "during")
    assert {row.name: row.binding for row in Secret.objects.all()} == {"before": UNBOUND, "during": UNBOUND}


def migrate_with_callback_secrets(settings: Settings) -> None:
    """Migrate a database in which one secret can be opened and the key of another is gone."""
    latest = MigrationExecutor(connection).loader.graph.leaf_nodes()
    MigrationExecutor(connection).migrate([("tenants", "0006_repository_policies")])
    try:
        keys = settings.SECRETS_KEYS
        for slug, used in (("kept", keys), ("lost", [Fernet.generate_key().decode()])):
            tenant = make_tenant(slug)
            settings.SECRETS_KEYS = used
            sealed = sealer().seal({"value": "whsec_eA==", "previous": ""}, bound_to=f"callbacks:{tenant.pk}")
            CallbackSecret.objects.create(tenant=tenant, sealed=sealed)
        settings.SECRETS_KEYS = keys
    finally:
        MigrationExecutor(connection).migrate(latest)


def test_callbacks_are_signed_with_the_secrets_of_the_previous_release(settings: Settings) -> None:
    migrate_with_callback_secrets(settings)
    kept, lost = (CallbackSecret.objects.get(tenant__slug=slug).tenant for slug in ("kept", "lost"))
    assert signing.secret_of(kept) == "whsec_eA=="
    with pytest.raises(CannotUnseal):
        signing.secret_of(lost)
