"""Policies of repositories: who may set them, what they are called, and what a claim gets."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest
from django.contrib.auth.models import User
from django.test import Client

from jobs.dispatch.round import dispatch_round
from myctobot.contract.runner import PushPolicy
from myctobot.errors import InvalidRequest
from myctobot.tenants import repository_policies
from myctobot.tenants.models import AuditEntry, RepositoryPolicy, Role, Tenant
from myctobot.tenants.repository_policies import parse_repository, read_policy, set_policy
from shards.models import Shard
from tests.factories.control_plane import Api, Runner, error_of, make_job, make_tenant

pytestmark = pytest.mark.django_db

PATH = "/repository-policies"
URL = "https://example.com/user/repo.git"
POLICY = {"repository": "example.com/user/repo", "allow_ci_files": True, "allow_default_branch": False}


@pytest.fixture
def admin(tenant: Tenant) -> Api:
    return Api.of(tenant, Role.ADMIN)


def test_an_admin_sets_a_policy_and_the_audit_log_has_it(admin: Api, tenant: Tenant) -> None:
    assert admin.send("put", PATH, POLICY).status_code == 200
    assert admin.send("put", PATH, POLICY).status_code == 200
    entry = AuditEntry.objects.get()
    assert (entry.actor, entry.action, entry.tenant) == ("API key test", "repository-policy.changed", tenant)
    assert entry.subject == "repository-policy/acme/example.com/user/repo"
    assert entry.details == {"allow_ci_files": {"was": False, "is": True}}
    (shown,) = admin.get(PATH).json()["results"]
    assert {**shown, **POLICY} == shown


def test_an_admin_removes_a_policy_and_the_audit_log_has_it(admin: Api, tenant: Tenant) -> None:
    admin.send("put", PATH, POLICY)
    assert admin.send("delete", f"{PATH}?repository={quote(URL)}").status_code == 204
    assert read_policy(tenant.pk, URL) == {"allow_ci_files": False, "allow_default_branch": False}
    entry = AuditEntry.objects.latest("pk")
    assert (entry.actor, entry.action) == ("API key test", "repository-policy.removed")
    assert entry.details == {"allow_ci_files": True, "allow_default_branch": False}


def test_the_policy_of_another_tenant_is_not_removed(admin: Api) -> None:
    set_policy(make_tenant("rival"), URL, PushPolicy(allow_ci_files=True, allow_default_branch=True), actor="test")
    answer = admin.send("delete", f"{PATH}?repository={quote(URL)}")
    assert (answer.status_code, error_of(answer)["code"]) == (404, "unknown_repository_policy")
    assert RepositoryPolicy.objects.count() == 1


def test_a_tenant_has_a_limited_number_of_policies(admin: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repository_policies, "MAX_POLICIES", 1)
    for repository, status in [("example.com/a", 200), ("example.com/b", 400), ("example.com/a", 200)]:
        assert admin.send("put", PATH, {**POLICY, "repository": repository}).status_code == status
    assert RepositoryPolicy.objects.count() == 1


@pytest.mark.parametrize("role", [Role.VIEWER, Role.MEMBER])
def test_only_admins_set_or_remove_a_policy(admin: Api, tenant: Tenant, role: Role) -> None:
    admin.send("put", PATH, POLICY)
    other = Api.of(tenant, role)
    assert other.send("put", PATH, {**POLICY, "allow_default_branch": True}).status_code == 403
    assert other.send("delete", f"{PATH}?repository={quote(URL)}").status_code == 403
    assert read_policy(tenant.pk, URL) == {"allow_ci_files": True, "allow_default_branch": False}


def test_a_policy_is_of_one_tenant(admin: Api, tenant: Tenant) -> None:
    admin.send("put", PATH, POLICY)
    other = make_tenant("rival")
    assert Api.of(other, Role.ADMIN).get(PATH).json()["results"] == []
    assert read_policy(other.pk, URL) == {"allow_ci_files": False, "allow_default_branch": False}
    assert read_policy(tenant.pk, URL) == {"allow_ci_files": True, "allow_default_branch": False}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"repository": "example.com"}, "repository"),
        ({"repository": "example.com/a/../b"}, "repository"),
        ({"repository": "exa mple.com/a"}, "repository"),
        ({"repository": "https://[::1/a"}, "repository"),
        ({"repository": "example.com:99999/a"}, "repository"),
        ({"repository": 7}, "repository"),
        ({"allow_ci_files": "yes"}, "allow_ci_files"),
        ({"allow_all": True}, "allow_all"),
    ],
)
def test_a_malformed_policy_names_the_field(admin: Api, change: dict[str, object], field: str) -> None:
    response = admin.send("put", PATH, {**POLICY, **change})
    assert response.status_code == 400
    assert field in error_of(response)["fields"]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("https://Example.com/User/Repo.git", "example.com/User/Repo"),
        ("ssh://git@example.com/user/repo", "example.com/user/repo"),
        ("ssh://git@example.com:22/user/repo/", "example.com/user/repo"),
        ("https://example.com:8443/user/repo", "example.com:8443/user/repo"),
        ("file:///srv/git/repo.git", "/srv/git/repo.git"),
        ("/srv/git/repo.git", "/srv/git/repo.git"),
        ("example.com/user/repo.git", "example.com/user/repo"),
    ],
)
def test_the_name_of_a_repository(text: str, name: str) -> None:
    assert parse_repository(text) == name
    assert parse_repository(name) == name


def test_a_repository_without_a_path_has_no_name() -> None:
    with pytest.raises(InvalidRequest):
        parse_repository("https://example.com/")


def test_a_claim_gets_the_policy_of_its_repository(admin: Api, tenant: Tenant, shard: Shard, key: str) -> None:
    admin.send("put", PATH, POLICY)
    allowed = make_job(tenant)
    dispatch_round()
    assert Runner(key, allowed).claim().json()["push_policy"] == {
        "allow_ci_files": True,
        "allow_default_branch": False,
    }
    other = make_job(tenant, task={"type": "prompt", "prompt": "x", "repo_url": "https://example.com/user/other.git"})
    dispatch_round()
    assert Runner(key, other).claim().json()["push_policy"] == {
        "allow_ci_files": False,
        "allow_default_branch": False,
    }


def test_a_claim_names_the_tenant_of_kept_objects_by_a_digest(
    tenant: Tenant, shard: Shard, key: str, settings: Any
) -> None:
    def scope(owner: Tenant) -> str | None:
        runner = Runner(key, make_job(owner))
        dispatch_round()
        answer: dict[str, str] = runner.claim().json()
        runner.finish()
        return answer.get("object_scope")

    first = scope(tenant)
    assert first == scope(tenant) != scope(make_tenant("other"))
    assert first is not None
    assert len(first) == 64
    settings.KEEP_REPOSITORY_OBJECTS = False
    assert scope(tenant) is None


def test_the_panel_edits_policies_with_an_audit_entry(tenant: Tenant) -> None:
    panel = Client()
    panel.force_login(User.objects.create_superuser("root"))
    form = {"tenant": tenant.pk, "repository": URL, "allow_default_branch": "on"}
    panel.post("/admin/tenants/repositorypolicy/add/", form)
    row = RepositoryPolicy.objects.get()
    assert (row.repository, row.allow_ci_files, row.allow_default_branch) == ("example.com/user/repo", False, True)
    panel.post(f"/admin/tenants/repositorypolicy/{row.pk}/change/", {"allow_ci_files": "on"})
    row.refresh_from_db()
    assert (row.allow_ci_files, row.allow_default_branch) == (True, False)
    actions = list(AuditEntry.objects.order_by("pk").values_list("action", flat=True))
    assert actions == ["repository-policy.created", "repository-policy.changed"]
    assert (
        b"Must be host and path"
        in panel.post("/admin/tenants/repositorypolicy/add/", {**form, "repository": "nothing"}).content
    )
