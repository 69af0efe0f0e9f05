"""Settings of a production host: Django has no warning about them, and HTTPS is enforced where a proxy ends it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet

ROOT = Path(__file__).resolve().parents[3]
# The same as in docs/runbook.md.
HTTPS = {"CONTROL_URL": "https://control.example", "ALLOWED_HOSTS": "control.example", "BEHIND_PROXY": "true"}
LOOPBACK: dict[str, str] = {}

_ASK = """
import json, os, sys
os.environ["DJANGO_SETTINGS_MODULE"] = "myctobot.settings"
import django
django.setup()
from django.core import checks
from django.core.checks.security import base, csrf, sessions
from django.http import HttpResponse
from django.middleware.security import SecurityMiddleware
from django.test import RequestFactory
from myctobot.web.security_headers import SecurityHeadersMiddleware
app = SecurityHeadersMiddleware(SecurityMiddleware(lambda request: HttpResponse("page")))
answers = []
for path, headers in json.loads(sys.argv[1]):
    answer = app(RequestFactory().get(path, headers=headers))
    answers.append([answer.status_code, answer.get("Location"), answer.get("Strict-Transport-Security")])
found = checks.run_checks(tags=["security"], include_deployment_checks=True)
print(json.dumps([[warning.id for warning in found], answers]))
"""


def run(tmp_path: Path, environment: dict[str, str], *command: str) -> subprocess.CompletedProcess[str]:
    own = {
        "PATH": os.defpath,
        "MYCTOBOT_HOME": str(tmp_path),
        "SECRET_KEY": "a-key-of-fifty-characters-or-more-0123456789-abcdefghijk",
        "SECRETS_KEYS": Fernet.generate_key().decode(),
    }
    return subprocess.run(
        [sys.executable, *command], cwd=ROOT, env=own | environment,
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def ask(tmp_path: Path, environment: dict[str, str], *calls: tuple[str, dict[str, str]]) -> Any:
    """Return the ids of Django's warnings, and for each call its status, its new address and its HSTS header."""
    done = run(tmp_path, environment, "-c", _ASK, json.dumps(calls))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def answers(tmp_path: Path, environment: dict[str, str], *calls: tuple[str, dict[str, str]]) -> Any:
    return ask(tmp_path, environment, *calls)[1]


def test_django_has_no_warning_about_the_production_settings(tmp_path: Path) -> None:
    done = run(tmp_path, HTTPS, "manage.py", "check", "--deploy", "--fail-level", "WARNING")
    assert done.returncode == 0, done.stderr
    assert "no issues (0 silenced)" in done.stdout


@pytest.mark.parametrize(
    ("change", "warning"),
    [
        ({"DEBUG": "true"}, "security.W018"),
        ({"SECRET_KEY": "short"}, "security.W009"),
        ({"BEHIND_PROXY": "false"}, "security.W008"),
        ({"HSTS_SECONDS": "0"}, "security.W004"),
        ({"HSTS_SUBDOMAINS": "false"}, "security.W005"),
        ({"CONTROL_URL": "http://control.example"}, "security.W012"),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value),
)
def test_an_insecure_value_is_a_warning(tmp_path: Path, change: dict[str, str], warning: str) -> None:
    assert warning in ask(tmp_path, HTTPS | change)[0]


def test_browsers_are_sent_to_https_and_remember_it(tmp_path: Path) -> None:
    plain, secure = answers(
        tmp_path, HTTPS, ("/jobs/", {"host": "control.example"}),
        ("/jobs/", {"host": "control.example", "x-forwarded-proto": "https"}),
    )  # fmt: skip
    assert plain == [301, "https://control.example/jobs/", None]
    assert secure == [200, None, "max-age=3600; includeSubDomains; preload"]


def test_pages_are_redirected_and_calls_of_programs_on_the_host_are_not(tmp_path: Path) -> None:
    programs = ["/api/v1/jobs", "/healthz", "/metrics"]
    pages = ["/api/docs/", "/healthz/x", "/admin/metrics", "/"]
    calls = [(path, {"host": "control.example"}) for path in programs + pages]
    assert [status for status, *_ in answers(tmp_path, HTTPS, *calls)] == [200] * 3 + [301] * 4


def test_a_forgotten_proxy_causes_no_endless_redirect_and_browsers_still_remember_https(tmp_path: Path) -> None:
    settings = HTTPS | {"BEHIND_PROXY": "false"}
    forwarded = {"host": "control.example", "x-forwarded-proto": "https"}
    expected = [200, None, "max-age=3600; includeSubDomains; preload"]
    assert answers(tmp_path, settings, ("/jobs/", forwarded), ("/jobs/", {"host": "control.example"})) == [expected] * 2
    own = settings | {"HSTS_SECONDS": "60", "HSTS_SUBDOMAINS": "false"}
    assert answers(tmp_path, own, ("/jobs/", forwarded)) == [[200, None, "max-age=60"]]
    assert answers(tmp_path, settings | {"HSTS_SECONDS": "0"}, ("/jobs/", forwarded)) == [[200, None, None]]


def test_plain_loopback_stays_as_it_is(tmp_path: Path) -> None:
    # Without a proxy, a caller's own header makes nothing secure.
    calls: list[tuple[str, dict[str, str]]] = [("/jobs/", {}), ("/jobs/", {"x-forwarded-proto": "https"})]
    assert answers(tmp_path, LOOPBACK, *calls) == [[200, None, None]] * 2


def test_a_wrong_number_of_seconds_is_refused_by_name(tmp_path: Path) -> None:
    done = run(tmp_path, HTTPS | {"HSTS_SECONDS": "-1"}, "-c", "from myctobot import settings")
    assert done.returncode != 0
    assert "HSTS_SECONDS" in done.stderr
