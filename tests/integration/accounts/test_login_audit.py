"""Each login is in the audit log with its address, and no refused one is."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.test import Client

from myctobot.tenants.models import AuditEntry

pytestmark = pytest.mark.django_db
PASSWORD = "correct horse battery"


@pytest.mark.parametrize("page", ["/login/", "/admin/login/"])
def test_a_login_on_each_page(page: str) -> None:
    User.objects.create_superuser("ann", password=PASSWORD)
    client = Client(REMOTE_ADDR="192.0.2.7")
    client.post(page, {"username": "ann", "password": "wrong"})
    assert not AuditEntry.objects.exists()
    assert client.post(page, {"username": "ann", "password": PASSWORD}).status_code == 302
    entry = AuditEntry.objects.get()
    assert (entry.actor, entry.action, entry.subject) == ("ann", "user.logged_in", "user/ann")
    assert entry.details == {"address": "192.0.2.7", "second_factor": False}
    assert PASSWORD not in str(entry.details)
