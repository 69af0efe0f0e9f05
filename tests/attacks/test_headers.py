"""Each response restricts what a browser does with it, also an error and the page for the panel's password."""

from __future__ import annotations

import pytest
from django.test import Client

from myctobot.errors import RequestTooLarge
from myctobot.web.error_pages import refused_call
from tests.factories.control_plane import make_operator

pytestmark = pytest.mark.django_db

ANYONE = ["/login/", "/admin/login/", "/api/docs/", "/api/docs/?script=", "/nothing", "/api/v1/jobs", "/healthz"]
OPERATORS = ["/admin/", "/admin/shards/shard/", "/admin/nothing/", "/ops/", "/jobs/"]


def policy_of(path: str, browser: Client | None = None) -> dict[str, str]:
    """Return the directives of a response's policy, after a check of its other headers."""
    headers = (browser or Client()).get(path).headers
    assert headers["Referrer-Policy"] == "same-origin"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert {"camera=()", "geolocation=()", "microphone=()"} <= set(headers["Permissions-Policy"].split(", "))
    return dict(part.strip().partition(" ")[::2] for part in headers["Content-Security-Policy"].split(";"))


@pytest.fixture
def operator() -> Client:
    browser = Client()
    browser.force_login(make_operator())
    return browser


@pytest.mark.parametrize("path", ANYONE + OPERATORS)
def test_a_page_runs_no_script_of_another_host_or_in_its_text(path: str, operator: Client) -> None:
    policy = policy_of(path, None if path in ANYONE else operator)
    assert policy["default-src"] in ("'self'", "'none'")
    assert policy.get("script-src", policy["default-src"]) in ("'self'", "'self' 'unsafe-eval'", "'none'")
    assert "style-src-elem" not in policy
    assert (policy["frame-ancestors"], policy["base-uri"]) == ("'none'", "'none'")
    assert policy["form-action"] in ("'self'", "'none'")


@pytest.mark.parametrize("path", [path for path in ANYONE + OPERATORS if not path.startswith("/admin/")])
def test_only_the_panel_compiles_expressions(path: str, operator: Client) -> None:
    assert "unsafe" not in str(policy_of(path, operator))


def test_the_page_for_the_panels_password_compiles_none() -> None:
    assert "unsafe" not in str(policy_of("/admin/login/"))


def test_an_error_has_the_headers_too(operator: Client) -> None:
    # Django refuses the host before any view.
    answer = Client().get("/login/", headers={"host": "evil.example"})
    assert answer.status_code == 400
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]


def test_a_refused_call_has_them(operator: Client) -> None:
    headers = dict(refused_call("/login/", RequestTooLarge(1)).headers)
    assert b"default-src 'none'" in headers[b"content-security-policy"]
    assert headers[b"x-content-type-options"] == b"nosniff"
