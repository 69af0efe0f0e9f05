"""The statement that looks a key up, the guard and ``ApiKey.live`` agree on which keys are live."""

from __future__ import annotations

from datetime import timedelta
from itertools import product

import pytest
from django.utils import timezone

from myctobot.lib.sql import fetch_one
from myctobot.tenants.authentication import RecentKeys, find_api_key
from myctobot.tenants.models import ApiKey, Role, Tenant

pytestmark = pytest.mark.django_db


def test_all_states_of_a_key() -> None:
    tenant = Tenant.objects.create(slug="acme", name="Acme")
    row, key = ApiKey.create(tenant, "k")
    known = RecentKeys().find(key)
    assert known is not None
    now, hour = timezone.now(), timedelta(hours=1)
    live = 0
    for expires_at, revoked_at, is_active in product((None, now - hour, now + hour), (None, now), (True, False)):
        ApiKey.objects.update(expires_at=expires_at, revoked_at=revoked_at)
        Tenant.objects.update(is_active=is_active)
        expected = ApiKey.live().filter(pk=row.pk).exists()
        assert (find_api_key(key) is not None) == expected
        assert fetch_one(f"SELECT {known.guard.sql}", known.guard.values) == (expected,)
        assert (RecentKeys().find(key) is not None) == expected
        live += expected
    assert live == 2


def test_a_key_of_another_tenant_or_role_needs_a_new_lookup() -> None:
    tenant, other = (Tenant.objects.create(slug=slug, name=slug) for slug in ("acme", "other"))
    _, key = ApiKey.create(tenant, "k")
    keys = RecentKeys()
    known = keys.find(key)
    assert known is not None
    for change in ({"tenant": other}, {"tenant": tenant, "role": Role.VIEWER}):
        ApiKey.objects.update(**change)
        assert fetch_one(f"SELECT {known.guard.sql}", known.guard.values) == (False,)
    assert keys.find(key) is known
    keys.discard(key)
    found = keys.find(key)
    assert found is not None
    assert found.caller.role == Role.VIEWER


def test_an_unknown_key_is_not_kept() -> None:
    keys = RecentKeys()
    assert keys.find("mctb_unknown") is None
    tenant = Tenant.objects.create(slug="acme", name="Acme")
    row, key = ApiKey.create(tenant, "k")
    ApiKey.objects.filter(pk=row.pk).update(revoked_at=timezone.now())
    assert keys.find(key) is None
    ApiKey.objects.update(revoked_at=None)
    assert keys.find(key) is not None
