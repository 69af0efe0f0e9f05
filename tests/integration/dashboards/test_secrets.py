"""Pages on which admins store and bind secrets."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client

from myctobot.tenants.models import AuditEntry, Role, Secret, Tenant
from myctobot.tenants.secret_bindings import UNBOUND, SecretBinding, SecretPurpose
from myctobot.tenants.secrets import read_secret, store_secret
from tests.factories.control_plane import bound_to, bound_to_repository, make_member, make_tenant

pytestmark = pytest.mark.django_db
VALUE = "ghp_canary0123456789"
BINDING = {"purpose": "repository", "hosts": "GitHub.com, *.example.com", "min_role": "member"}
EXPECTED = SecretBinding(SecretPurpose.REPOSITORY, ("github.com", "*.example.com"), Role.MEMBER)


@pytest.fixture
def admin(tenant: Tenant) -> Client:
    client = Client()
    client.force_login(make_member(tenant, "root", Role.ADMIN))
    return client


def test_an_admin_stores_a_bound_secret(admin: Client, tenant: Tenant) -> None:
    answer = admin.post("/secrets/", {"name": "github", "value": VALUE, **BINDING}, follow=True)
    assert (answer.status_code, Secret.objects.get().binding) == (200, EXPECTED)
    assert read_secret(tenant.pk, "github") == VALUE
    assert VALUE not in answer.content.decode()
    assert AuditEntry.objects.get().actor == "root"


def test_pages_ask_admins_to_bind(admin: Client, browser: Client, tenant: Tenant) -> None:
    store_secret(tenant, "old", VALUE)
    for page in ("/jobs/", "/jobs/new/", "/secrets/"):
        assert "1 stored secret of this tenant is not bound" in " ".join(admin.get(page).content.decode().split())
        assert "not bound" not in browser.get(page).content.decode()
    assert "choose a purpose" in admin.get("/secrets/").content.decode()
    assert "This secret is not bound" in admin.get("/secrets/old/").content.decode()


def test_an_unbound_secret_is_bound_and_keeps_its_value(admin: Client, tenant: Tenant) -> None:
    assert store_secret(tenant, "old", VALUE).binding == UNBOUND
    assert admin.post("/secrets/old/", BINDING).status_code == 302
    assert Secret.objects.get().binding == EXPECTED
    assert read_secret(tenant.pk, "old") == VALUE
    assert "not bound" not in admin.get("/jobs/").content.decode()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"purpose": ""}, "This field is required"),
        ({"hosts": ""}, "Name the hosts"),
        ({"hosts": "https://github.com"}, "is not a host"),
        ({"value": "short"}, "Must have 8 to"),
        ({"name": "github"}, "has a secret of that name"),
    ],
)
def test_a_wrong_field_is_explained(admin: Client, tenant: Tenant, changes: dict[str, Any], said: str) -> None:
    store_secret(tenant, "github", VALUE)
    answer = admin.post("/secrets/", {"name": "new", "value": VALUE, **BINDING, **changes})
    assert answer.status_code == 400
    assert said in answer.content.decode()
    assert VALUE not in answer.content.decode()
    assert Secret.objects.count() == 1


def test_a_secret_is_removed(admin: Client, tenant: Tenant) -> None:
    store_secret(tenant, "github", VALUE)
    assert admin.post("/secrets/github/remove/").status_code == 302
    assert not Secret.objects.exists()


@pytest.mark.parametrize("path", ["/secrets/github/", "/secrets/github/remove/", "/secrets/unknown/"])
def test_another_tenants_secret_does_not_exist(admin: Client, path: str) -> None:
    store_secret(make_tenant("other"), "github", VALUE)
    assert admin.post(path, BINDING).status_code == 404
    assert Secret.objects.get().binding == UNBOUND


def test_the_form_of_a_job_offers_the_secrets_that_the_user_may_use(
    admin: Client, browser: Client, tenant: Tenant
) -> None:
    store_secret(tenant, "for-git", VALUE, bound_to_repository())
    store_secret(tenant, "for-admins", VALUE, bound_to_repository(min_role=Role.ADMIN))
    store_secret(tenant, "for-models", VALUE, bound_to(SecretPurpose.PROVIDER))
    store_secret(tenant, "old", VALUE)

    def offered(client: Client, field: str) -> list[str]:
        choices = client.get("/jobs/new/").context["form"].fields[field].choices
        return [value for value, _ in choices if value]

    assert offered(browser, "repo_token") == ["for-git"]
    assert offered(browser, "anthropic_api_key") == ["for-models"]
    assert offered(admin, "repo_token") == ["for-admins", "for-git", "old"]
