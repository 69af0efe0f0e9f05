"""API of stored secrets: bind, change, list and remove them."""

from __future__ import annotations

from typing import Any

import pytest

from myctobot.tenants import secrets
from myctobot.tenants.models import AuditEntry, Role, Secret, Tenant
from myctobot.tenants.secrets import read_secret, store_secret
from tests.factories.control_plane import Api, bound_to_repository, error_of, make_tenant

pytestmark = pytest.mark.django_db
VALUE = "ghp_canary0123456789"
NEW: dict[str, Any] = {"name": "github", "value": VALUE, "purpose": "repository", "hosts": ["GitHub.com"]}


@pytest.fixture
def admin(tenant: Tenant) -> Api:
    return Api.of(tenant, Role.ADMIN)


def test_an_admin_stores_a_bound_secret(admin: Api, tenant: Tenant) -> None:
    answer = admin.post("/secrets", NEW)
    assert answer.status_code == 201
    shown = answer.json()
    assert (shown["purpose"], shown["hosts"], shown["min_role"]) == ("repository", ["github.com"], "member")
    assert VALUE not in answer.content.decode()
    assert read_secret(tenant.pk, "github") == VALUE
    entry = AuditEntry.objects.get()
    assert (entry.action, entry.subject, entry.tenant) == ("secret.created", "secret/acme/github", tenant)
    assert VALUE not in str(entry.details)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"purpose": "unbound"}, "purpose"),
        ({"hosts": []}, "hosts"),
        ({"hosts": ["https://github.com"]}, "hosts"),
        ({"purpose": "provider"}, "hosts"),
        ({"value": "short"}, "value"),
        ({"value": " x23456789"}, "value"),
        ({"name": "two words"}, "name"),
        ({"min_role": "viewer"}, "min_role"),
        ({"extra": 1}, "extra"),
    ],
)
def test_a_wrong_field_is_named(admin: Api, changes: dict[str, Any], field: str) -> None:
    answer = admin.post("/secrets", {**NEW, **changes})
    assert answer.status_code == 400
    assert list(error_of(answer)["fields"]) == [field]
    assert not Secret.objects.exists()


def test_a_purpose_is_needed(admin: Api) -> None:
    answer = admin.post("/secrets", {"name": "github", "value": VALUE})
    assert list(error_of(answer)["fields"]) == ["purpose"]


def test_a_second_secret_of_a_name_is_refused_and_changes_nothing(admin: Api, tenant: Tenant) -> None:
    admin.post("/secrets", NEW)
    again = admin.post("/secrets", {**NEW, "value": "another-value"})
    assert (again.status_code, error_of(again)["code"]) == (409, "secret_exists")
    assert read_secret(tenant.pk, "github") == VALUE


def test_a_tenant_has_a_maximum_of_secrets(admin: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secrets, "MAX_SECRETS", 1)
    assert admin.post("/secrets", NEW).status_code == 201
    refused = admin.post("/secrets", {**NEW, "name": "second"})
    assert (refused.status_code, list(error_of(refused)["fields"])) == (400, ["name"])


def test_an_unbound_secret_is_listed_and_then_bound(admin: Api, tenant: Tenant) -> None:
    store_secret(tenant, "old", VALUE)
    assert [(row["name"], row["purpose"]) for row in admin.get("/secrets").json()["results"]] == [("old", "unbound")]
    assert list(error_of(admin.send("patch", "/secrets/old", {"min_role": "member"}))["fields"]) == ["purpose"]
    bound = admin.send("patch", "/secrets/old", {"purpose": "provider", "min_role": "member"})
    assert (bound.status_code, bound.json()["purpose"]) == (200, "provider")
    assert read_secret(tenant.pk, "old") == VALUE


def test_absent_fields_stay(admin: Api, tenant: Tenant) -> None:
    store_secret(tenant, "github", VALUE, bound_to_repository("github.com"))
    assert admin.send("patch", "/secrets/github", {"value": "another-value"}).json()["hosts"] == ["github.com"]
    assert read_secret(tenant.pk, "github") == "another-value"
    assert admin.send("patch", "/secrets/github", {"hosts": ["b.example.com"]}).json()["purpose"] == "repository"
    assert admin.send("patch", "/secrets/github", {"purpose": "tracker"}).json()["hosts"] == []


def test_a_removed_secret_is_gone(admin: Api, tenant: Tenant) -> None:
    store_secret(tenant, "github", VALUE)
    assert admin.send("delete", "/secrets/github", None).status_code == 204
    assert admin.send("delete", "/secrets/github", None).status_code == 404


def test_another_tenants_secret_and_an_unknown_one_have_the_same_answer(admin: Api) -> None:
    store_secret(make_tenant("other"), "github", VALUE)
    answers = [admin.get(f"/secrets/{name}") for name in ("github", "unknown")]
    answers += [admin.send("patch", f"/secrets/{name}", {"value": VALUE}) for name in ("github", "unknown")]
    assert {(answer.status_code, answer.content) for answer in answers} == {(404, answers[0].content)}
    assert admin.get("/secrets").json()["results"] == []
