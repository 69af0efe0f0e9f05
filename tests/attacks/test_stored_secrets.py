"""A member tries to read the secrets that admins stored, by naming them in jobs."""

from __future__ import annotations

from typing import Any

import pytest

from jobs.attempts.gateway_grants import find_grant
from jobs.dispatch.round import dispatch_round
from jobs.models import Job
from myctobot.tenants.models import ApiKey, Member, Role, Secret, Tenant
from myctobot.tenants.secret_bindings import SecretPurpose
from myctobot.tenants.secrets import change_secret, store_secret
from tests.factories.control_plane import (
    Answer,
    Api,
    Runner,
    bound_to,
    bound_to_repository,
    error_of,
    fresh,
    make_job,
    make_member,
    make_shard,
    make_tenant,
    running_job,
)

pytestmark = pytest.mark.django_db

CANARY = "sk-ant-canary-of-the-admins-0123456789"
OWN_SERVER = "https://attacker.example.net/steal.git"
NAMED = {"secret": "anthropic"}


@pytest.fixture
def tenant() -> Tenant:
    return make_tenant()


@pytest.fixture
def key() -> str:
    """Create a shard that may run the jobs, and return its key."""
    return make_shard()[1]


def request(url: str = OWN_SERVER, **task: Any) -> dict[str, Any]:
    return {"task": {"type": "prompt", "prompt": "x", "repo_url": url, **task}, "capabilities": ["git"]}


def refused(answer: Answer, field: str, code: str = "secret_not_allowed") -> str:
    """Check that a request was refused by its field and no job stored; return the sentence."""
    assert (answer.status_code, error_of(answer)["code"]) == (400, code)
    assert not Job.objects.exists()
    assert CANARY not in answer.content.decode()
    return str(error_of(answer)["fields"][field][0])


def claim_is_refused(key: str, job: Job) -> str:
    """Check that a claim gets no secret and ends the job; return the job's error."""
    dispatch_round()
    answer = Runner(key, job).claim()
    assert answer.status_code == 409
    assert CANARY not in answer.content.decode()
    ended = fresh(job)
    assert (ended.status, ended.error_code) == ("failed", "secret_not_allowed")
    return ended.error_message


class TestSubmit:
    def test_the_provider_key_is_not_sent_to_the_members_server(self, tenant: Tenant, key: str) -> None:
        store_secret(tenant, "anthropic", CANARY, bound_to(SecretPurpose.PROVIDER))
        answer = Api.of(tenant).post("/jobs", request(repo_token=NAMED))
        assert "is for the purpose 'provider', not 'repository'" in refused(answer, "task.repo_token")

    def test_nor_is_a_key_that_was_stored_before_there_were_bindings(self, tenant: Tenant, key: str) -> None:
        store_secret(tenant, "anthropic", CANARY)
        answer = Api.of(tenant).post("/jobs", request(repo_token=NAMED))
        assert "only admins may use it" in refused(answer, "task.repo_token")
        assert Api.of(tenant, Role.ADMIN).post("/jobs", request(repo_token=NAMED)).status_code == 201

    @pytest.mark.parametrize(
        "url",
        [
            OWN_SERVER,
            "https://git.example.com.attacker.net/r.git",
            "https://attacker.net/git.example.com/r.git",
            "https://git.example.com:8443/r.git",
            "ssh://git@git.example.com:2222/r.git",
        ],
    )
    def test_a_repositorys_token_is_not_sent_to_another_host(self, tenant: Tenant, key: str, url: str) -> None:
        store_secret(tenant, "anthropic", CANARY, bound_to_repository("git.example.com"))
        answer = Api.of(tenant).post("/jobs", request(url, repo_token=NAMED))
        assert "may be sent to git.example.com only" in refused(answer, "task.repo_token")

    @pytest.mark.parametrize("field", ["anthropic_api_key", "context.jira_token"])
    def test_a_repositorys_token_is_no_provider_key_and_no_jira_token(
        self, tenant: Tenant, key: str, field: str
    ) -> None:
        store_secret(tenant, "anthropic", CANARY, bound_to_repository())
        body = request() | ({"context": {"jira_token": NAMED}} if "jira" in field else {field: NAMED})
        refused(Api.of(tenant).post("/jobs", body), field)

    def test_a_secret_of_admins_is_refused_to_members(self, tenant: Tenant, key: str) -> None:
        store_secret(tenant, "anthropic", CANARY, bound_to_repository("attacker.example.net", min_role=Role.ADMIN))
        answer = Api.of(tenant).post("/jobs", request(repo_token=NAMED))
        assert "by the role 'admin' only" in refused(answer, "task.repo_token")

    def test_another_tenants_secret_is_refused_like_an_unknown_one(self, tenant: Tenant, key: str) -> None:
        store_secret(make_tenant("other"), "anthropic", CANARY)
        for stored in (NAMED, {"secret": "no-one-has-it"}):
            sentence = refused(Api.of(tenant).post("/jobs", request(repo_token=stored)), "task.repo_token",
                               "unknown_secret")  # fmt: skip
            assert sentence.replace(stored["secret"], "X") == (
                "The tenant has no secret named 'X'; store it first, or send the value itself."
            )

    def test_a_member_cannot_bind_a_secret_to_the_own_server(self, tenant: Tenant, key: str) -> None:
        store_secret(tenant, "anthropic", CANARY, bound_to(SecretPurpose.PROVIDER))
        change = {"purpose": "repository", "hosts": ["attacker.example.net"]}
        assert Api.of(tenant).send("patch", "/secrets/anthropic", change).status_code == 403
        assert Secret.objects.get().purpose == "provider"

    def test_a_member_cannot_retry_an_admins_job_with_its_secret(self, tenant: Tenant, key: str) -> None:
        store_secret(tenant, "anthropic", CANARY)
        job, runner = running_job(tenant, key, role=Role.ADMIN, secrets={"repo_token": NAMED})
        runner.finish()
        answer = Api.of(tenant).post(f"/jobs/{job.public_id}/retry", {})
        assert (answer.status_code, list(error_of(answer)["fields"])) == (400, ["repo_token"])


class TestClaim:
    @pytest.fixture
    def queued(self, tenant: Tenant, key: str) -> Job:
        """Return a waiting job that may use the secret until a test changes something."""
        store_secret(tenant, "anthropic", CANARY, bound_to_repository())
        return make_job(tenant, secrets={"repo_token": NAMED})

    def test_a_job_that_may_use_its_secret_gets_it(self, queued: Job, key: str) -> None:
        dispatch_round()
        assert Runner(key, queued).claim().json()["secrets"] == {"repo_token": CANARY}

    @pytest.mark.parametrize(
        "binding",
        [bound_to(SecretPurpose.PROVIDER), bound_to_repository("github.com"), bound_to_repository(min_role="admin")],
    )
    def test_a_queued_job_follows_a_changed_binding(self, queued: Job, key: str, binding: Any) -> None:
        change_secret(queued.tenant, "anthropic", by="ann", binding=binding)
        assert "The secret 'anthropic'" in claim_is_refused(key, queued)

    def test_a_job_that_the_old_release_queued_cannot_use_an_unbound_secret(self, queued: Job, key: str) -> None:
        Secret.objects.update(purpose="unbound", hosts=[], min_role="admin")
        assert "bind it first" in claim_is_refused(key, queued)

    def test_a_key_that_lost_its_role_loses_the_secret(self, queued: Job, key: str) -> None:
        ApiKey.objects.update(role=Role.VIEWER)
        claim_is_refused(key, queued)

    def test_so_does_a_member_who_left_the_tenant(self, queued: Job, key: str, tenant: Tenant) -> None:
        Job.objects.update(created_by=make_member(tenant, "ann"), api_key=None)
        Member.objects.all().delete()
        claim_is_refused(key, queued)

    def test_a_key_that_is_gone_and_another_tenants_key_have_no_rights(self, queued: Job, key: str) -> None:
        foreign, _ = ApiKey.create(make_tenant("other"), "x", role=Role.ADMIN)
        Job.objects.update(api_key=foreign)
        claim_is_refused(key, queued)

    def test_a_secret_that_the_runner_does_not_get_is_checked_too(self, tenant: Tenant, key: str) -> None:
        store_secret(tenant, "anthropic", CANARY, bound_to(SecretPurpose.PROVIDER))
        job = make_job(tenant, secrets={"anthropic_api_key": NAMED})
        change_secret(tenant, "anthropic", by="ann", binding=bound_to(SecretPurpose.TRACKER))
        claim_is_refused(key, job)


def test_the_gateway_follows_a_binding_that_changes_during_the_job(tenant: Tenant, key: str) -> None:
    store_secret(tenant, "anthropic", CANARY, bound_to(SecretPurpose.PROVIDER))
    _, runner = running_job(tenant, key, secrets={"anthropic_api_key": NAMED})
    change = bound_to(SecretPurpose.TRACKER)
    token = runner.claim().json()["gateway"]["token"]
    grant = find_grant(token)
    assert grant is not None
    assert grant.anthropic_key() == CANARY
    change_secret(tenant, "anthropic", by="ann", binding=change)
    assert grant.anthropic_key() is None
    # The value stays masked in all that the shard reports.
    runner.events(f"leaked {CANARY}")
    assert CANARY not in Api.of(tenant).get(f"/jobs/{runner.job.public_id}/events").content.decode()
