"""A job that can reach no model is refused at submit, with a sentence that says what to do."""

from __future__ import annotations

from typing import Any

import pytest

from jobs.lifecycle.model_access import KEYLESS_UPSTREAMS
from jobs.models import Job
from myctobot.gateway.upstreams import UPSTREAMS
from myctobot.tenants.models import Role, Tenant
from myctobot.tenants.secret_bindings import SecretBinding, SecretPurpose
from myctobot.tenants.secrets import store_secret
from shards.models import Shard
from tests.factories.control_plane import Api, bound_to, bound_to_repository, fresh, running_job

pytestmark = pytest.mark.django_db

BODY: dict[str, Any] = {"task": {"type": "prompt", "prompt": "Fix it."}, "capabilities": ["git"]}
VALUE = "sk-ant-0123456789"


@pytest.fixture
def provider(settings: Any) -> None:
    """Let the gateway call a provider, as an installation with real models does."""
    settings.GATEWAY_UPSTREAM = "anthropic"


def refusal(answer: Any) -> str:
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["code"], error["retryable"]) == ("no_model_access", False)
    (sentence,) = error["fields"]["anthropic_api_key"]
    return str(sentence)


def test_every_upstream_but_the_scripted_one_needs_a_key() -> None:
    assert set(UPSTREAMS) - KEYLESS_UPSTREAMS == {"anthropic"}


def test_without_a_stored_key_the_answer_says_how_to_store_one(provider: None, tenant: Tenant, shard: Shard) -> None:
    said = refusal(Api.of(tenant).post("/jobs", BODY))
    assert "store one under Secrets" in said
    assert "manage.py store_secret --purpose provider" in said
    assert not Job.objects.exists()


def test_the_answer_names_the_stored_keys_that_the_caller_may_use(provider: None, tenant: Tenant, shard: Shard) -> None:
    store_secret(tenant, "ours", VALUE, bound_to(SecretPurpose.PROVIDER))
    store_secret(tenant, "for-admins", VALUE, SecretBinding(SecretPurpose.PROVIDER, min_role=Role.ADMIN))
    store_secret(tenant, "for-git", VALUE, bound_to_repository())
    assert refusal(Api.of(tenant).post("/jobs", BODY)).endswith("you may use ours.")
    assert refusal(Api.of(tenant, Role.ADMIN).post("/jobs", BODY)).endswith("you may use for-admins, ours.")


@pytest.mark.parametrize("key", [VALUE, {"secret": "ours"}], ids=["inline", "stored"])
def test_a_key_of_the_tenant_is_access(provider: None, tenant: Tenant, shard: Shard, key: Any) -> None:
    store_secret(tenant, "ours", VALUE, bound_to(SecretPurpose.PROVIDER))
    assert Api.of(tenant).post("/jobs", {**BODY, "anthropic_api_key": key}).status_code == 201


def test_scripts_need_no_key(tenant: Tenant, shard: Shard) -> None:
    assert Api.of(tenant).post("/jobs", BODY).status_code == 201


def test_a_repeated_request_still_returns_its_job(settings: Any, tenant: Tenant, shard: Shard) -> None:
    api = Api.of(tenant)
    first = api.post("/jobs", BODY, **{"Idempotency-Key": "once"}).json()
    settings.GATEWAY_UPSTREAM = "anthropic"
    assert api.post("/jobs", BODY, **{"Idempotency-Key": "once"}).json()["id"] == first["id"]


def test_a_retry_is_refused_too_and_accepts_a_key(settings: Any, tenant: Tenant, key: str) -> None:
    old, runner = running_job(tenant, key)
    runner.finish()
    settings.GATEWAY_UPSTREAM = "anthropic"
    api = Api.of(tenant)
    assert "store one under Secrets" in refusal(api.post(f"/jobs/{old.public_id}/retry", {}))
    again = api.post(f"/jobs/{old.public_id}/retry", {"anthropic_api_key": VALUE})
    assert again.status_code == 201
    assert Job.objects.get(public_id=again.json()["id"]).retry_of == fresh(old)
