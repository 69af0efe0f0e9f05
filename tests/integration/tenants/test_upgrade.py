"""Upgrade from the previous release: its stored secrets become unbound."""

from __future__ import annotations

import pytest
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from myctobot.tenants.models import Secret
from myctobot.tenants.secret_bindings import UNBOUND
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
