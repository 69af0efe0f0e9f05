"""Errors under the paths of the APIs are JSON, those of pages are pages of ours, and both reveal nothing."""

from __future__ import annotations

import re
from html import unescape
from typing import Any

import pytest
from django.db import DatabaseError, InterfaceError, OperationalError
from django.test import Client
from psycopg_pool import PoolTimeout

from jobs.lifecycle import lookup
from myctobot.errors import RETRY_AFTER_S
from myctobot.tenants.models import Tenant
from myctobot.web.security_headers import PLAIN_POLICY
from shards.models import Shard
from tests.factories.control_plane import Api, JsonClient, error_of, make_operator

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


def text_of(response: Any, status: int) -> str:
    """Return the text of a page of ours, after checks that all of them pass."""
    assert response.status_code == status
    assert response.headers["Content-Type"] == "text/html; charset=utf-8"
    assert response.headers["Cache-Control"] == "private, no-store"
    assert response.headers["Content-Security-Policy"] == PLAIN_POLICY
    page = response.content.decode()
    assert '<link rel="stylesheet" href="/static/dashboards/app.css">' in page
    assert "<script" not in page
    return unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page)))


class TestPages:
    """Errors that a browser may show are pages of ours, and none needs the database or a session."""

    def failing(self, monkeypatch: pytest.MonkeyPatch, error: Exception) -> Client:
        def fail(*_: object, **__: object) -> None:
            raise error

        monkeypatch.setattr("myctobot.dashboards.pages.find_caller", fail)
        browser = Client(raise_request_exception=False)
        browser.force_login(make_operator())
        return browser

    def test_an_unknown_address(self) -> None:
        assert "There is no such page" in text_of(Client().get("/nothing"), 404)

    def test_an_invalid_host(self) -> None:
        assert "The request is not valid" in text_of(Client(headers={"Host": "evil.example"}).get("/jobs/"), 400)

    def test_an_exception_shows_an_id_that_is_in_the_log_with_its_traceback_once(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        error = DatabaseError("canary of the traceback")
        response = self.failing(monkeypatch, error).get("/jobs/")
        said = text_of(response, 500)
        assert "canary" not in response.content.decode()
        found = re.search(r"Request id: (req_[a-z0-9]{20})", said)
        assert found
        entries = [record for record in caplog.records if record.levelname == "ERROR"]
        assert len(entries) == 1
        logged: Any = entries[0].msg
        assert (logged["request_id"], logged["exc_info"]) == (found[1], error)

    @pytest.mark.parametrize("error", [OperationalError("canary"), InterfaceError("canary"), PoolTimeout("canary")])
    def test_a_database_that_is_down(self, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
        response = self.failing(monkeypatch, error).get("/jobs/")
        assert "is not available at the moment" in text_of(response, 503)
        assert response.headers["Retry-After"] == str(RETRY_AFTER_S)
        assert b"canary" not in response.content

    def test_a_form_of_an_earlier_login_keeps_its_text_and_no_secret(self) -> None:
        browser = Client(enforce_csrf_checks=True)
        typed = {"prompt": "Fix <b>it</b>\x1b[31m.", "repo_url": "https://example.com/r", "repo_token": "ghp_canary"}
        response = browser.post("/jobs/new/", typed, headers={"Referer": "http://testserver/jobs/?q=1"})
        said = text_of(response, 403)
        assert "Nothing was sent" in said
        assert "Fix <b>it</b>." in said
        assert "Fix &lt;b&gt;it" in response.content.decode()
        assert "https://example.com/r" in said
        assert "canary" not in said
        assert '<a href="/jobs/?q=1">Open the page again</a>' in response.content.decode()

    @pytest.mark.parametrize(
        "referrer", ["", "https://evil.example/jobs/", "http://testserver//evil.example", "javascript:alert(1)"]
    )
    def test_a_page_of_another_host_is_no_way_back(self, referrer: str) -> None:
        browser = Client(enforce_csrf_checks=True)
        response = browser.post("/jobs/new/", {"prompt": "x"}, headers={"Referer": referrer})
        assert text_of(response, 403).endswith(" Prompt x Show all jobs ")
        assert response.content.count(b"<a ") == 2
