"""Token of a job's repository, read again by the runner of its present attempt."""

from __future__ import annotations

from typing import Any

import pytest

from myctobot.contract.runner import CLAIM_HEADER
from myctobot.tenants.models import Secret, Tenant
from myctobot.tenants.secret_bindings import SecretPurpose
from myctobot.tenants.secrets import store_secret
from tests.factories.control_plane import (
    REPO_TOKEN,
    Runner,
    bound_to,
    bound_to_repository,
    error_of,
    make_shard,
    running_job,
)

pytestmark = pytest.mark.django_db

NEW_TOKEN = "ghp_canary-replaced-token-0987654321"
STORED: dict[str, Any] = {"secrets": {"repo_token": {"secret": "github"}}}


@pytest.fixture
def runner(tenant: Tenant, key: str) -> Runner:
    """Return the runner of a job whose token is a stored secret."""
    store_secret(tenant, "github", REPO_TOKEN, bound_to_repository())
    return running_job(tenant, key, **STORED)[1]


def ask(runner: Runner, attempt: int = 1, claim_token: str | None = None) -> Any:
    headers = {} if claim_token is None else {CLAIM_HEADER: claim_token}
    return runner.call("git-token", {"attempt": attempt}, **headers)


def test_the_runner_gets_the_token_that_is_stored_now(runner: Runner, tenant: Tenant) -> None:
    assert ask(runner).json() == {"token": REPO_TOKEN}
    store_secret(tenant, "github", NEW_TOKEN)
    assert ask(runner).json() == {"token": NEW_TOKEN}


def test_a_token_of_the_request_stays_the_same(tenant: Tenant, key: str) -> None:
    _, runner = running_job(tenant, key, secrets={"repo_token": REPO_TOKEN})
    assert ask(runner).json() == {"token": REPO_TOKEN}


def test_a_job_may_have_no_token_and_its_other_secrets_stay_where_they_are(tenant: Tenant, key: str) -> None:
    _, runner = running_job(tenant, key, secrets={"anthropic_api_key": "sk-ant-canary-1234567890"})
    assert ask(runner).json() == {"token": None}


def test_a_secret_that_is_gone_or_bound_elsewhere_is_not_given_out(runner: Runner, tenant: Tenant) -> None:
    store_secret(tenant, "github", REPO_TOKEN, bound_to(SecretPurpose.PROVIDER))
    assert error_of(ask(runner))["code"] == "secret_not_allowed"
    Secret.objects.all().delete()
    refused = ask(runner)
    assert error_of(refused)["code"] == "unknown_secret"
    assert REPO_TOKEN not in refused.content.decode()


def test_only_the_runner_of_the_running_attempt_gets_it(runner: Runner) -> None:
    _, other = make_shard("other")
    strangers = [
        ask(runner, claim_token="u" * 40),
        ask(runner, claim_token=""),
        ask(runner, attempt=2),
        ask(Runner(other, runner.job)),
    ]
    assert [answer.status_code for answer in strangers] == [409] * 4
    assert ask(Runner("mcts_unknown", runner.job)).status_code == 401
    runner.finish()
    assert error_of(ask(runner))["code"] == "fenced"
    assert ask(runner, attempt=0).status_code == 400
