from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from django.test import Client

if TYPE_CHECKING:
    from myctobot.tenants.models import Tenant


@pytest.fixture
def browser(tenant: Tenant) -> Client:
    """Return a client that is logged in as Ann, a member of the tenant."""
    from tests.factories.control_plane import make_member

    browser = Client()
    browser.force_login(make_member(tenant, "ann"))
    return browser
