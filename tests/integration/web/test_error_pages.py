"""Errors under the paths of the APIs are JSON and reveal nothing."""

from __future__ import annotations

import pytest
from django.db import DatabaseError
from django.test import Client

from jobs.lifecycle import lookup
from myctobot.tenants.models import Tenant
from shards.models import Shard
from tests.factories.control_plane import Api, JsonClient, error_of

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("path", ["/api/v1/nothing", "/api/v2/jobs", "/api/v1/jobs/", "/shard/v1/nothing", "/shard/"])
def test_an_address_that_does_not_exist(path: str) -> None:
    response = Client().get(path)
    assert response.status_code == 404
    assert response.headers["Content-Type"] == "application/json"
    assert error_of(response)["code"] == "no_such_address"


def test_elsewhere_pages_are_for_people() -> None:
    assert "text/html" in Client().get("/nothing").headers["Content-Type"]


def test_a_method_that_an_address_does_not_have(tenant: Tenant) -> None:
    response = Api.of(tenant).post("/jobs/job_x")
    assert response.status_code == 405
    assert error_of(response)["code"] == "method_not_allowed"


@pytest.mark.filterwarnings("default")
def test_an_unforeseen_error_in_the_api(tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise DatabaseError("canary of the traceback")

    monkeypatch.setattr(lookup, "find_job", fail)
    response = Api.of(tenant).get("/jobs/job_x")
    assert response.status_code == 500
    assert error_of(response)["code"] == "internal_error"
    assert error_of(response)["retryable"] is True
    assert b"canary" not in response.content
    assert b"Traceback" not in response.content


def test_an_unforeseen_error_in_the_shard_api(shard: Shard, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise DatabaseError("canary of the traceback")

    monkeypatch.setattr("jobs.shard_api.runner_calls.claim_attempt", fail)
    response = JsonClient(key).post("/shard/v1/jobs/job_x/claim", {"attempt": 1, "claim_token": "x" * 40})
    assert response.status_code == 500
    assert error_of(response)["code"] == "internal_error"
    assert b"canary" not in response.content


def test_a_host_that_is_not_ours() -> None:
    response = Client(headers={"Host": "evil.example"}).get("/api/v1/jobs")
    assert response.status_code == 400
    assert error_of(response)["code"] == "invalid_request"
