from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from django.test import Client

from tests.integration.jobs.conftest import key, shard, shard_and_key, tenant

if TYPE_CHECKING:
    from myctobot.tenants.models import Tenant

__all__ = ["key", "shard", "shard_and_key", "tenant"]


@pytest.fixture
def browser(tenant: Tenant) -> Client:
    """Of Ann, a member of the tenant, logged in."""
    from tests.factories.control_plane import make_member

    browser = Client()
    browser.force_login(make_member(tenant, "ann"))
    return browser
