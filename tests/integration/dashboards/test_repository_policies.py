"""Pages on which members see repository policies and admins change them."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest
from django.test import Client

from jobs.models import Job
from myctobot.contract.runner import PushPolicy
from myctobot.tenants import repository_policies
from myctobot.tenants.models import AuditEntry, RepositoryPolicy, Role, Tenant
from myctobot.tenants.repository_policies import set_policy
from shards.models import Shard
from tests.factories.control_plane import make_job, make_member, make_tenant

pytestmark = pytest.mark.django_db
PAGE = "/repository-policies/"
NAME = "git.example.com/team/tool"
CI_FILES = PushPolicy(allow_ci_files=True, allow_default_branch=False)


@pytest.fixture
def admin(tenant: Tenant) -> Client:
    client = Client()
    client.force_login(make_member(tenant, "root", Role.ADMIN))
    return client


@pytest.fixture
def policy(tenant: Tenant) -> RepositoryPolicy:
    return set_policy(tenant, NAME, CI_FILES, actor="test")


def rights() -> list[tuple[str, bool, bool]]:
    rows = RepositoryPolicy.objects.order_by("pk")
    return [(row.repository, row.allow_ci_files, row.allow_default_branch) for row in rows]


def text_of(answer: Any) -> str:
    return " ".join(answer.content.decode().split())


def test_an_admin_adds_a_policy_by_url(admin: Client) -> None:
    answer = admin.post(PAGE, {"repository": f"https://{NAME}.git", "allow_default_branch": "on"}, follow=True)
    assert (answer.status_code, rights()) == (200, [(NAME, False, True)])
    assert NAME in text_of(answer)
    entry = AuditEntry.objects.get()
    assert (entry.actor, entry.action) == ("root", "repository-policy.changed")


def test_a_tenant_without_policies_sees_what_applies(admin: Client, browser: Client) -> None:
    for client in (admin, browser):
        assert "No policies yet." in text_of(client.get(PAGE))


def test_an_admin_changes_and_removes_a_policy(admin: Client, policy: RepositoryPolicy) -> None:
    page = f"{PAGE}{policy.pk}/"
    assert admin.get(page).context["form"].initial == CI_FILES
    assert admin.post(page, {"allow_default_branch": "on"}).status_code == 302
    assert rights() == [(NAME, False, True)]
    assert admin.post(f"{page}remove/").status_code == 302
    assert rights() == []
    actions = [entry.action for entry in AuditEntry.objects.filter(actor="root").order_by("pk")]
    assert actions == ["repository-policy.changed", "repository-policy.removed"]


def test_other_members_only_read(tenant: Tenant, browser: Client, policy: RepositoryPolicy) -> None:
    viewer = Client()
    viewer.force_login(make_member(tenant, "vic", Role.VIEWER))
    for client in (browser, viewer):
        shown = text_of(client.get(PAGE))
        assert NAME in shown
        assert "Only admins of Acme can change policies." in shown
        assert "Add a policy" not in shown
        for path in (PAGE, f"{PAGE}{policy.pk}/", f"{PAGE}{policy.pk}/remove/"):
            assert client.post(path, {"repository": "github.com/user/other"}).status_code == 403
    assert rights() == [(NAME, True, False)]


@pytest.mark.parametrize(
    ("repository", "said"),
    [
        ("", "This field is required."),
        ("github.com", "Must be host and path"),
        (f"ssh://git@{NAME}", "This repository has a policy."),
        ("<script>alert(1)</script>", "Must be host and path"),
    ],
)
def test_a_wrong_repository_is_explained(admin: Client, policy: RepositoryPolicy, repository: str, said: str) -> None:
    answer = admin.post(PAGE, {"repository": repository, "allow_default_branch": "on"})
    assert answer.status_code == 400
    assert said in text_of(answer)
    assert "<script>alert" not in text_of(answer)
    assert rights() == [(NAME, True, False)]


def test_a_tenant_with_too_many_policies_gets_a_reason(
    admin: Client, policy: RepositoryPolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repository_policies, "MAX_POLICIES", 1)
    answer = admin.post(PAGE, {"repository": "github.com/user/other"})
    assert (answer.status_code, len(rights())) == (400, 1)
    assert "The tenant has 1 policies; remove one first." in text_of(answer)
    assert admin.post(f"{PAGE}{policy.pk}/", {"allow_ci_files": "on"}).status_code == 302


@pytest.mark.parametrize("end", ["", "remove/"])
@pytest.mark.parametrize("number", [None, 2**70])
def test_another_tenants_policy_does_not_exist(admin: Client, end: str, number: int | None) -> None:
    theirs = set_policy(make_tenant("other"), NAME, CI_FILES, actor="test")
    assert admin.post(f"{PAGE}{number or theirs.pk}/{end}", {"allow_default_branch": "on"}).status_code == 404
    assert rights() == [(NAME, True, False)]
    assert NAME not in text_of(admin.get(PAGE))


@pytest.mark.parametrize("code", ["ci_files_refused", "default_branch_refused", "default_branch_unknown"])
def test_a_refused_job_leads_to_the_form_for_its_repository(
    admin: Client, browser: Client, tenant: Tenant, shard: Shard, code: str
) -> None:
    job = make_job(tenant, task={"type": "prompt", "prompt": "x", "repo_url": f"https://{NAME}.git"})
    Job.objects.filter(pk=job.pk).update(status="failed", error_code=code, error_message="It may not do this.")
    link = f"{PAGE}?repository={quote(f'https://{NAME}.git', safe='')}"
    assert f'href="{link}"' in text_of(browser.get(f"/jobs/{job.public_id}/"))
    assert f'value="https://{NAME}.git"' in text_of(admin.get(link))


def test_another_failure_does_not(browser: Client, tenant: Tenant, shard: Shard) -> None:
    job = make_job(tenant)
    Job.objects.filter(pk=job.pk).update(status="failed", error_code="push_denied", error_message="No.")
    assert "Repository policies" not in text_of(browser.get(f"/jobs/{job.public_id}/"))
