from __future__ import annotations

from typing import Any

import pytest
from cryptography.fernet import Fernet

from myctobot.lib.crypto import CannotUnseal
from myctobot.tenants.models import Secret, Tenant
from myctobot.tenants.secrets import UnknownSecret, read_secret, store_secret
from tests.factories.control_plane import make_tenant, whole_database

pytestmark = pytest.mark.django_db
VALUE = "canary-stored-secret-1234567890"


def test_a_stored_secret_can_be_read_and_is_nowhere_in_clear_text(tenant: Tenant) -> None:
    store_secret(tenant, "github", VALUE)
    assert read_secret(tenant.pk, "github") == VALUE
    assert VALUE not in whole_database()


def test_storing_again_replaces(tenant: Tenant) -> None:
    store_secret(tenant, "github", "old-old-old")
    store_secret(tenant, "github", VALUE)
    assert Secret.objects.count() == 1
    assert read_secret(tenant.pk, "github") == VALUE


def test_an_unknown_one_is_named(tenant: Tenant) -> None:
    with pytest.raises(UnknownSecret, match="'gitlab'"):
        read_secret(tenant.pk, "gitlab")


def test_another_tenants_is_unknown(tenant: Tenant) -> None:
    store_secret(tenant, "github", VALUE)
    with pytest.raises(UnknownSecret):
        read_secret(make_tenant("other").pk, "github")


def test_a_row_copied_to_another_tenant_stays_shut(tenant: Tenant) -> None:
    row = store_secret(tenant, "github", VALUE)
    other = make_tenant("other")
    Secret.objects.create(tenant=other, name="github", sealed=row.sealed)
    with pytest.raises(CannotUnseal):
        read_secret(other.pk, "github")


def test_keys_rotate(tenant: Tenant, settings: Any) -> None:
    store_secret(tenant, "github", VALUE)
    settings.SECRETS_KEYS = [Fernet.generate_key().decode(), *settings.SECRETS_KEYS]
    assert read_secret(tenant.pk, "github") == VALUE


def test_a_key_that_is_gone(tenant: Tenant, settings: Any) -> None:
    store_secret(tenant, "github", VALUE)
    settings.SECRETS_KEYS = [Fernet.generate_key().decode()]
    with pytest.raises(CannotUnseal):
        read_secret(tenant.pk, "github")
