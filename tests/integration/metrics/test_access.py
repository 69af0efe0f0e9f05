"""Access to the metrics for each kind of caller."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import Client

from myctobot import env
from myctobot.tenants.models import ApiKey, Tenant
from tests.factories.control_plane import make_member, make_operator

pytestmark = pytest.mark.django_db
TOKEN = "metrics-token-0123456789"
LOCAL = "127.0.0.0/8"


def status(headers: dict[str, str] | None = None, client: Client | None = None, **extra: Any) -> int:
    return (client or Client()).get("/metrics", headers=headers or {}, **extra).status_code


def networks(monkeypatch: pytest.MonkeyPatch, text: str) -> list[Any]:
    monkeypatch.setenv("METRICS_NETWORKS", text)
    return env.networks("METRICS_NETWORKS")


def test_access_is_denied_by_default_even_from_this_machine(tenant: Tenant) -> None:
    answer = Client().get("/metrics")
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert b"myctobot_" not in answer.content
    assert status({"Authorization": "Bearer "}) == status({"Authorization": "Basic Og=="}) == 401


def test_only_the_token_gives_access(settings: Any, tenant: Tenant) -> None:
    settings.METRICS_TOKEN = TOKEN
    assert status({"Authorization": f"Bearer {TOKEN}"}) == 200
    for wrong in (f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", "Bearer caf\u00e9", f"Basic {TOKEN}", TOKEN):
        assert status({"Authorization": wrong}) == 401


def test_a_tenants_key_and_a_member_are_refused_and_an_operator_is_not(tenant: Tenant) -> None:
    _, key = ApiKey.create(tenant, "ci", role="admin")
    assert status({"Authorization": f"Bearer {key}"}) == 401
    member, operator = Client(), Client()
    member.force_login(make_member(tenant, "ann", "admin"))
    operator.force_login(make_operator())
    assert (status(client=member), status(client=operator)) == (401, 200)


def test_a_network_lets_in_what_is_in_it_and_comes_by_itself(
    settings: Any, monkeypatch: pytest.MonkeyPatch, tenant: Tenant
) -> None:
    settings.METRICS_NETWORKS = networks(monkeypatch, "10.20.0.0/16, ::1")
    for address, expected in {"10.20.3.4": 200, "::1": 200, "::ffff:10.20.0.9": 200, "10.21.0.1": 401, "": 401}.items():
        assert status(REMOTE_ADDR=address) == expected, address


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded", "X-Real-Ip"])
def test_forwarded_requests_are_not_judged_by_the_proxys_address(
    settings: Any, monkeypatch: pytest.MonkeyPatch, tenant: Tenant, header: str
) -> None:
    settings.METRICS_NETWORKS = networks(monkeypatch, LOCAL)
    assert status() == 200
    assert status({header: "203.0.113.9"}) == 401
    assert status({header: "127.0.0.1"}) == 401


def test_a_network_that_is_none_and_a_token_that_can_be_guessed_are_refused_at_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(ImproperlyConfigured, match=r"METRICS_NETWORKS: 10\.0\.0\.1/8 has host bits set"):
        networks(monkeypatch, "10.0.0.1/8")
    monkeypatch.setenv("METRICS_TOKEN", "secret")
    with pytest.raises(ImproperlyConfigured, match="METRICS_TOKEN has 6 characters; it must have at least 16"):
        env.token("METRICS_TOKEN")


def test_only_reading_is_possible(settings: Any, tenant: Tenant) -> None:
    settings.METRICS_TOKEN = TOKEN
    assert Client().post("/metrics", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 405
