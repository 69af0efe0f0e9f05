"""A user of the panel sets up a second factor, and an administrator removes it."""

from __future__ import annotations

import re
from io import StringIO
from typing import Any

import pyotp
import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.test import Client

from myctobot.accounts.models import TotpDevice
from myctobot.tenants.key_rotation import sealed_models
from myctobot.tenants.models import AuditEntry
from tests.factories.control_plane import make_member, make_operator, make_tenant, whole_database
from tests.factories.logins import add_app, prove

pytestmark = pytest.mark.django_db
PAGE = "/admin/second-factor/"


@pytest.fixture
def ann() -> User:
    return make_operator("ann")


@pytest.fixture
def browser(ann: User) -> Client:
    found = Client()
    found.force_login(ann)
    return found


def shown_secret(browser: Client) -> str:
    answer: Any = browser.get(PAGE)
    assert 'src="data:image/svg+xml' in answer.text
    assert "no-store" in answer.headers["Cache-Control"]
    found = re.search(r'<code id="secret">([A-Z2-7]{32})</code>', answer.text)
    assert found
    return found[1]


def test_the_right_code_sets_it_up_and_shows_recovery_codes_once(browser: Client, ann: User, settings: Any) -> None:
    settings.STAFF_TOTP_REQUIRED = True
    secret = shown_secret(browser)
    assert secret not in whole_database()
    done: Any = browser.post(PAGE, {"code": pyotp.TOTP(secret).now()})
    assert len(re.findall(r"\b(?:[a-z2-7]{5}-){2}[a-z2-7]{5}\b", done.text)) == 10
    assert secret not in whole_database()
    later: Any = browser.get(PAGE)
    assert "10 recovery codes are left" in later.text
    assert browser.get("/admin/").status_code == 200
    assert AuditEntry.objects.filter(action="user.second_factor_set_up", actor="ann").count() == 1


def test_a_wrong_code_keeps_the_secret(browser: Client) -> None:
    secret = shown_secret(browser)
    answer: Any = browser.post(PAGE, {"code": "wrong"})
    assert "The code is wrong" in answer.text
    assert shown_secret(browser) == secret
    assert not TotpDevice.objects.exists()


def test_it_is_not_replaced_by_a_session(browser: Client, ann: User) -> None:
    secret = shown_secret(browser)
    app = add_app(ann)
    prove(browser, ann)
    answer: Any = browser.post(PAGE, {"code": pyotp.TOTP(secret).now()})
    assert "was set up on" in answer.text
    assert TotpDevice.objects.get().recovery_hashes != []
    assert app.secret != secret


def test_a_member_has_no_such_page() -> None:
    browser = Client()
    browser.force_login(make_member(make_tenant(), "ben"))
    assert browser.get(PAGE).status_code == 302


def test_a_command_resets_it(ann: User) -> None:
    add_app(ann)
    out = StringIO()
    call_command("reset_totp", "ann", stdout=out)
    assert "Removed." in out.getvalue()
    assert not TotpDevice.objects.exists()
    assert AuditEntry.objects.get(action="user.second_factor_reset").subject == "user/ann"


@pytest.mark.parametrize(("name", "problem"), [("bob", "There is no user 'bob'"), ("ann", "has no second factor")])
def test_a_reset_names_the_problem(ann: User, name: str, problem: str) -> None:
    with pytest.raises(CommandError, match=problem):
        call_command("reset_totp", name)


def test_a_rotation_of_keys_includes_it() -> None:
    assert TotpDevice in sealed_models()
