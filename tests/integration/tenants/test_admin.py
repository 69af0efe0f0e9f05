"""Keys are shown once and secrets never."""

from __future__ import annotations

import re

import pytest
from django.contrib.admin import site
from django.contrib.auth.models import User
from django.db.models import Model
from django.test import Client

from myctobot.lib.crypto import digest
from myctobot.tenants.models import ApiKey, AuditEntry, Secret, Tenant
from myctobot.tenants.secrets import read_secret
from tests.factories.control_plane import Api

pytestmark = pytest.mark.django_db
BINDING = {"purpose": "repository", "hosts": "github.com", "min_role": "member"}


@pytest.fixture
def admin(db: None) -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("root"))
    return client


def test_a_new_key_is_shown_once_and_works(admin: Client, tenant: Tenant) -> None:
    form = {"tenant": tenant.pk, "name": "ci", "role": "member"}
    response = admin.post("/admin/tenants/apikey/add/", form, follow=True)
    shown = re.search(r"mctb_[\w-]{40,}", response.content.decode())
    assert shown is not None
    assert ApiKey.objects.get().key_hash == digest(shown[0])
    assert Api(shown[0]).get("/jobs").status_code == 200
    assert shown[0] not in admin.get("/admin/tenants/apikey/").content.decode()


def test_a_secret_is_typed_in_and_not_shown_again(admin: Client, tenant: Tenant) -> None:
    form = {"tenant": tenant.pk, "name": "github", "value": "canary-typed-in", **BINDING}
    response = admin.post("/admin/tenants/secret/add/", form, follow=True)
    assert read_secret(tenant.pk, "github") == "canary-typed-in"
    assert "canary-typed-in" not in response.content.decode()
    page = admin.get(f"/admin/tenants/secret/{Secret.objects.get().pk}/change/").content.decode()
    assert "canary-typed-in" not in page


def test_a_refused_form_does_not_repeat_the_secret(admin: Client, tenant: Tenant) -> None:
    form = {"tenant": tenant.pk, "name": "not a slug", "value": "canary-typed-in", **BINDING}
    response = admin.post("/admin/tenants/secret/add/", form)
    assert not Secret.objects.exists()
    assert "canary-typed-in" not in response.content.decode()


class TestAuditLog:
    def entry(self) -> AuditEntry:
        return AuditEntry.objects.latest("pk")

    def test_a_change_says_who_and_what(self, admin: Client, tenant: Tenant) -> None:
        form = {**TestShareAndLimits.FORM, "weight": "300"}
        admin.post(f"/admin/tenants/tenant/{tenant.pk}/change/", form)
        entry = self.entry()
        assert (entry.actor, entry.action, entry.subject) == ("root", "tenant.changed", "tenant/acme")
        assert entry.details == {"weight": {"was": 100, "is": 300}}

    def test_the_audit_entry_of_a_secret_or_key_hides_its_value(self, admin: Client, tenant: Tenant) -> None:
        admin.post(
            "/admin/tenants/secret/add/", {"tenant": tenant.pk, "name": "github", "value": "canary-typed-in", **BINDING}
        )
        assert (self.entry().action, self.entry().details["value"]) == ("secret.created", "(set)")
        answer = admin.post(
            "/admin/tenants/apikey/add/", {"tenant": tenant.pk, "name": "ci", "role": "member"}, follow=True
        )
        key = re.search(r"mctb_[\w-]{40,}", answer.content.decode())
        assert key is not None
        assert self.entry().action == "api-key.created"
        assert not {word for word in ("canary-typed-in", key[0], digest(key[0])) if word in whole_audit_log()}

    def test_the_audit_entry_of_a_new_password_hides_it(self, admin: Client, db: None) -> None:
        user = User.objects.create_user("bob")
        form = {"password1": "canary-Pass-93", "password2": "canary-Pass-93", "usable_password": "true"}
        assert admin.post(f"/admin/auth/user/{user.pk}/password/", form).status_code == 302
        assert (self.entry().action, self.entry().subject) == ("user.password_changed", "user/bob")
        assert "canary-Pass-93" not in whole_audit_log()

    def test_a_deletion_is_audited(self, admin: Client, tenant: Tenant) -> None:
        key, _ = ApiKey.create(tenant, "ci")
        data = {"action": "delete_selected", "_selected_action": [key.pk], "post": "yes"}
        admin.post("/admin/tenants/apikey/", data)
        assert self.entry().action == "api-key.removed"


@pytest.mark.parametrize("model", list(site._registry), ids=lambda model: model.__name__)
def test_no_page_shows_an_object_instead_of_a_value(admin: Client, tenant: Tenant, model: type[Model]) -> None:
    ApiKey.create(tenant, "ci")
    place = f"/admin/{model._meta.app_label}/{model._meta.model_name}/"
    for path in (place, f"{place}add/"):
        answer = admin.get(path)
        # Rows that only the product creates have no page to add one.
        assert answer.status_code in ((200,) if path == place else (200, 403))
        assert "DatabaseDefault" not in answer.content.decode()
        assert " object at 0x" not in answer.content.decode()


def whole_audit_log() -> str:
    return str(list(AuditEntry.objects.values()))


def test_the_admin_is_for_staff(tenant: Tenant) -> None:
    client = Client()
    client.force_login(User.objects.create_user("no-staff"))
    assert client.get("/admin/jobs/job/").status_code == 302


class TestShareAndLimits:
    FORM = {"slug": "acme", "name": "Acme", "is_active": "on", "members-TOTAL_FORMS": "0", "members-INITIAL_FORMS": "0"}

    def save(self, admin: Client, tenant: Tenant, **limits: str) -> str:
        path = f"/admin/tenants/tenant/{tenant.pk}/change/"
        page = admin.post(path, {**self.FORM, **limits}, follow=True).content.decode()
        tenant.refresh_from_db()
        return page

    def test_they_can_be_changed(self, admin: Client, tenant: Tenant) -> None:
        self.save(admin, tenant, weight="300", max_running_jobs="5", max_waiting_jobs="50")
        assert (tenant.weight, tenant.max_running_jobs, tenant.max_waiting_jobs) == (300, 5, 50)
        self.save(admin, tenant, weight="100", max_running_jobs="", max_waiting_jobs="")
        assert (tenant.weight, tenant.max_running_jobs, tenant.max_waiting_jobs) == (100, None, None)

    @pytest.mark.parametrize(
        "limits", [{"weight": "0"}, {"weight": "10001"}, {"weight": "1", "max_running_jobs": "-1"}]
    )
    def test_nonsense_is_refused(self, admin: Client, tenant: Tenant, limits: dict[str, str]) -> None:
        assert "Please correct the error" in self.save(admin, tenant, **limits)
        assert (tenant.weight, tenant.max_running_jobs) == (100, None)

    def test_the_page_says_what_they_do(self, admin: Client, tenant: Tenant) -> None:
        page = admin.get(f"/admin/tenants/tenant/{tenant.pk}/change/").content.decode()
        for sentence in (
            "in proportion to the weights of the others",
            "Empty: as many as shards take.",
            "Running jobs continue",
        ):
            assert sentence in page
