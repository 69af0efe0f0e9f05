from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.test import Client

PATH = "/.well-known/security.txt"
LATER = datetime(2999, 6, 30, tzinfo=UTC)


def test_without_a_contact_there_is_none(settings: Any) -> None:
    assert not settings.SECURITY_CONTACT
    assert Client().get(PATH).status_code == 404


def test_it_has_the_fields_of_the_rfc(settings: Any) -> None:
    settings.SECURITY_CONTACT = ["mailto:security@example.org", "https://example.org/report"]
    settings.SECURITY_EXPIRES = LATER
    settings.CONTROL_URL = "https://control.example"
    answer = Client().get(PATH)
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "text/plain; charset=utf-8")
    assert answer.content.decode().splitlines() == [
        "Contact: mailto:security@example.org",
        "Contact: https://example.org/report",
        "Expires: 2999-06-30T00:00:00Z",
        "Canonical: https://control.example/.well-known/security.txt",
        "Preferred-Languages: en",
    ]


@pytest.mark.parametrize("expires", [None, datetime.now(UTC) - timedelta(days=1)])
def test_an_expired_one_is_not_served(settings: Any, expires: datetime | None) -> None:
    settings.SECURITY_CONTACT, settings.SECURITY_EXPIRES = ["mailto:security@example.org"], expires
    assert Client().get(PATH).status_code == 404
