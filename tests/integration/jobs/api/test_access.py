"""Each endpoint tried by everybody who might try it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from jobs.models import Job
from myctobot.tenants.models import ApiKey, Member, Role, Tenant
from shards.models import Shard
from tests.factories.control_plane import Answer, Api, error_of, make_job, make_member, make_tenant
from tests.factories.personas import Persona

pytestmark = pytest.mark.django_db

Call = Callable[[Api, Job], Answer]
BODY = {"task": {"type": "prompt", "prompt": "x"}, "capabilities": ["git"]}

READS: dict[str, Call] = {
    "list": lambda api, job: api.get("/jobs"),
    "read": lambda api, job: api.get(f"/jobs/{job.public_id}"),
    "events": lambda api, job: api.get(f"/jobs/{job.public_id}/events"),
    "download": lambda api, job: api.get(f"/jobs/{job.public_id}/download"),
    # These two calls only read, although their method is POST.
    "estimate": lambda api, job: api.post("/jobs/estimate", {"capabilities": ["git"]}),
    "ticket": lambda api, job: api.post(f"/jobs/{job.public_id}/ticket"),
    "stream": lambda api, job: api.get(f"/jobs/{job.public_id}/stream", Accept="text/event-stream"),
}
WRITES: dict[str, Call] = {
    "create": lambda api, job: api.post("/jobs", BODY),
    "cancel": lambda api, job: api.post(f"/jobs/{job.public_id}/cancel"),
    "retry": lambda api, job: api.post(f"/jobs/{job.public_id}/retry"),
}
EVERY = {**READS, **WRITES}
OF_ONE_JOB = {name: call for name, call in EVERY.items() if name not in ("list", "create", "estimate")}


def table(calls: dict[str, Call]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("call", calls.values(), ids=calls.keys())


@pytest.fixture
def job(tenant: Tenant, shard: Shard) -> Job:
    return make_job(tenant)


def is_let_in(response: Answer) -> bool:
    # A retry of a waiting job is refused for what the job is, not for who asks.
    return response.status_code in (200, 201, 202) or error_of(response)["code"] == "job_not_finished"


@table(EVERY)
def test_the_owner_is_let_in_by_key(call: Call, owner: Persona, job: Job) -> None:
    assert is_let_in(call(owner.api_by_key, job))


@table(EVERY)
def test_a_teammate_is_let_in_by_session(call: Call, teammate: Persona, job: Job) -> None:
    assert is_let_in(call(teammate.api, job))


@table(READS)
@pytest.mark.parametrize("by_key", [True, False], ids=["key", "session"])
def test_a_viewer_reads(call: Call, by_key: bool, tenant: Tenant, job: Job) -> None:
    api = Api.of(tenant, Role.VIEWER) if by_key else Api.session(make_member(tenant, "viewer", Role.VIEWER))
    assert call(api, job).status_code == 200


@table(WRITES)
@pytest.mark.parametrize("by_key", [True, False], ids=["key", "session"])
def test_a_viewer_does_not_write(call: Call, by_key: bool, tenant: Tenant, job: Job) -> None:
    api = Api.of(tenant, Role.VIEWER) if by_key else Api.session(make_member(tenant, "viewer", Role.VIEWER))
    response = call(api, job)
    assert response.status_code == 403
    assert error_of(response)["code"] == "permission_denied"
    assert [one.status for one in Job.objects.all()] == ["queued"]


@table(OF_ONE_JOB)
@pytest.mark.parametrize("by_key", [True, False], ids=["key", "session"])
def test_for_an_outsider_the_job_does_not_exist(call: Call, by_key: bool, outsider: Persona, job: Job) -> None:
    response = call(Api.of(outsider.tenant, Role.ADMIN) if by_key else outsider.api, job)
    unknown = call(outsider.api_by_key, Job(public_id="job_there_is_none"))
    assert response.status_code == 404
    assert response.content == unknown.content
    job.refresh_from_db()
    assert job.status == "queued"


def test_the_list_of_an_outsider_is_empty(outsider: Persona, job: Job) -> None:
    assert outsider.api_by_key.get("/jobs").json()["results"] == []


@table(EVERY)
@pytest.mark.parametrize("authorization", [None, "Bearer mctb_unknown", "Bearer"], ids=["nothing", "unknown", "empty"])
def test_strangers(call: Call, authorization: str | None, job: Job) -> None:
    response = call(Api(**({"Authorization": authorization} if authorization else {})), job)
    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"].startswith("Bearer")
    assert error_of(response)["message"]


def _revoked(tenant: Tenant) -> str:
    return ApiKey.create(tenant, "k", revoked_at=timezone.now())[1]


def _expired(tenant: Tenant) -> str:
    return ApiKey.create(tenant, "k", expires_at=timezone.now() - timedelta(seconds=1))[1]


def _of_an_inactive_tenant(tenant: Tenant) -> str:
    key = ApiKey.create(tenant, "k")[1]
    Tenant.objects.filter(pk=tenant.pk).update(is_active=False)
    return key


@table(EVERY)
@pytest.mark.parametrize("dead", [_revoked, _expired, _of_an_inactive_tenant])
def test_keys_that_have_ended(call: Call, dead: Callable[[Tenant], str], tenant: Tenant, job: Job) -> None:
    response = call(Api(dead(tenant)), job)
    assert response.status_code == 401
    assert "API key is unknown, expired or revoked" in error_of(response)["message"]


def test_a_key_that_expires_later_is_good(tenant: Tenant, job: Job) -> None:
    assert Api.of(tenant, expires_at=timezone.now() + timedelta(hours=1)).get("/jobs").status_code == 200


@table(EVERY)
def test_a_user_without_a_tenant_is_refused(call: Call, job: Job) -> None:
    response = call(Api.session(User.objects.create_user("nobody")), job)
    assert response.status_code == 403
    assert "belongs to no tenant" in error_of(response)["message"]


def test_a_member_of_an_inactive_tenant_is_out(tenant: Tenant, job: Job) -> None:
    api = Api.session(make_member(tenant, "m"))
    Tenant.objects.filter(pk=tenant.pk).update(is_active=False)
    assert api.get("/jobs").status_code == 403


def test_a_member_of_two_tenants_names_one(tenant: Tenant, job: Job) -> None:
    user, other = make_member(tenant, "both"), make_tenant("other")
    Member.objects.create(tenant=other, user=user)
    api = Api.session(user)
    assert len(api.get("/jobs", **{"MyCTOBot-Tenant": "acme"}).json()["results"]) == 1
    assert api.get("/jobs", **{"MyCTOBot-Tenant": "other"}).json()["results"] == []
    assert api.get("/jobs", **{"MyCTOBot-Tenant": "a-third"}).status_code == 403


@pytest.mark.parametrize("slug", ["other", "no-such", "ACME", ""])
def test_a_key_belongs_to_one_tenant_and_the_header_must_agree(tenant: Tenant, job: Job, slug: str) -> None:
    make_tenant("other")
    api = Api.of(tenant)
    for response in (
        api.get("/jobs", **{"MyCTOBot-Tenant": slug}),
        api.post("/jobs", BODY, **{"MyCTOBot-Tenant": slug}),
    ):
        assert (response.status_code, error_of(response)["code"]) == (403, "other_tenant")
    assert Job.objects.count() == 1


def test_a_key_may_name_its_own_tenant(tenant: Tenant, job: Job) -> None:
    response = Api.of(tenant).get("/jobs", **{"MyCTOBot-Tenant": tenant.slug})
    assert [one["id"] for one in response.json()["results"]] == [job.public_id]


def test_the_use_of_a_key_is_noted(tenant: Tenant, job: Job) -> None:
    Api.of(tenant).get("/jobs")
    assert ApiKey.objects.get().last_used_at is not None


class TestCsrf:
    """Sessions come from browsers, whose cookies others can make them send."""

    @pytest.fixture
    def browser(self, tenant: Tenant) -> Client:
        client = Client(enforce_csrf_checks=True)
        client.force_login(make_member(tenant, "browser"))
        return client

    def test_reading_needs_no_token(self, browser: Client, job: Job) -> None:
        assert browser.get("/api/v1/jobs").status_code == 200

    def test_a_write_without_the_token_is_refused(self, browser: Client, job: Job) -> None:
        response = browser.post("/api/v1/jobs", BODY, content_type="application/json")
        assert response.status_code == 403
        assert "CSRF" in error_of(response)["message"]

    def test_a_write_with_the_token(self, browser: Client, job: Job) -> None:
        browser.cookies["csrftoken"] = "a" * 32
        response = browser.post(
            "/api/v1/jobs", BODY, content_type="application/json", headers={"X-CSRFToken": "a" * 32}
        )
        assert response.status_code == 201
