"""Attacks on the second factor of staff, by someone who knows the password."""

from __future__ import annotations

from io import StringIO
from types import SimpleNamespace
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import Client
from structlog.testing import capture_logs

from jobs.streaming.access import by_session
from myctobot.accounts import second_factor
from myctobot.accounts.models import TotpDevice
from myctobot.tenants.models import Member, Role
from tests.factories.control_plane import make_job, make_operator, make_shard, make_tenant
from tests.factories.logins import ELSEWHERE, HOME, PASSWORD, App, add_app, browse, prove, try_login

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("hasher", "limiter")]

NOW = 1_800_000_015.0
STEP_S = 30
PAGES = ["/admin/", "/ops/", "/jobs/", "/api/v1/shards", "/api/v1/jobs"]


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Stop the clock of the codes; a test sets its ``now``."""
    found = SimpleNamespace(now=NOW)
    found.time = lambda: found.now
    monkeypatch.setattr(second_factor, "time", found)
    return found


@pytest.fixture
def ann(hasher: Any) -> User:
    user = make_operator("ann")
    Member.objects.create(tenant=make_tenant(), user=user, role=Role.ADMIN)
    user.set_password(PASSWORD)
    user.save()
    return user


@pytest.fixture
def app(ann: User) -> App:
    return add_app(ann)


@pytest.mark.parametrize("code", ["", "000000", "abcde-abcde-abcde", "١٢٣٤٥٦", "1" * 40])
def test_the_password_alone_does_not_log_in(ann: User, app: App, code: str) -> None:
    assert try_login("ann", PASSWORD, code=code) == "wrong"
    assert try_login("ann", PASSWORD, code=app.code(NOW)) == "in"


@pytest.mark.parametrize("page", ["/login/", "/admin/login/"])
def test_a_page_does_not_confirm_a_guessed_password(ann: User, app: App, page: str) -> None:
    texts = []
    for password in (PASSWORD, "wrong"):
        answer: Any = Client().post(page, {"username": "ann", "password": password, "code": "000000"})
        texts.append((answer.status_code, "The user name, the password or the code is wrong." in answer.text))
    assert texts == [(200, True)] * 2


@pytest.mark.parametrize("page", ["/login/", "/admin/login/"])
def test_the_pages_accept_a_code(ann: User, app: App, page: str) -> None:
    assert browse("ann", app.code(NOW), page).get("/admin/").status_code == 200


def test_a_used_code_is_refused(ann: User, app: App, clock: SimpleNamespace) -> None:
    assert try_login("ann", PASSWORD, code=app.code(NOW)) == "in"
    clock.now = NOW + 1
    assert try_login("ann", PASSWORD, code=app.code(NOW)) == "wrong"
    # A code of an earlier step was not used, but an attacker may have seen it.
    assert try_login("ann", PASSWORD, code=app.code(NOW - STEP_S)) == "wrong"
    assert try_login("ann", PASSWORD, code=app.code(NOW + STEP_S)) == "in"


def test_a_code_of_another_time_is_refused(ann: User, app: App) -> None:
    found = [try_login("ann", PASSWORD, code=app.code(NOW + steps * STEP_S)) for steps in (-2, 2, -1)]
    assert found == ["wrong", "wrong", "in"]


def test_guessing_codes_has_the_limits_of_passwords(ann: User, app: App) -> None:
    found = [try_login("ann", PASSWORD, ELSEWHERE, code=f"00000{number}") for number in range(6)]
    assert found == ["wrong"] * 5 + ["refused"]
    assert try_login("ann", PASSWORD, ELSEWHERE, code=app.code(NOW)) == "refused"
    assert try_login("ann", PASSWORD, HOME, code=app.code(NOW)) == "in"


def test_a_recovery_code_works_once(ann: User, app: App) -> None:
    first, second, *_ = app.recovery
    assert [try_login("ann", PASSWORD, code=code) for code in (first, first)] == ["in", "wrong"]
    assert try_login("ann", PASSWORD, code=second.upper().replace("-", " ")) == "in"
    assert len(TotpDevice.objects.get().recovery_hashes) == len(app.recovery) - 2


def test_the_row_holds_neither_the_secret_nor_a_recovery_code(ann: User, app: App) -> None:
    row = str(TotpDevice.objects.values().get())
    assert app.secret not in row
    assert not any(code in row or code.replace("-", "") in row for code in app.recovery)


def test_the_secret_of_another_user_does_not_open(ann: User, app: App) -> None:
    bob = make_operator("bob")
    bob.set_password(PASSWORD)
    bob.save()
    other = add_app(bob)
    TotpDevice.objects.filter(user=ann).update(sealed=TotpDevice.objects.get(user=bob).sealed)
    with capture_logs() as lines:
        assert try_login("ann", PASSWORD, code=other.code(NOW)) == "wrong"
    assert "login.second_factor_unreadable" in [line["event"] for line in lines]


@pytest.mark.parametrize("path", PAGES)
def test_a_session_from_before_the_second_factor_ends(ann: User, path: str) -> None:
    browser = browse("ann")
    assert browser.get(path).status_code == 200
    add_app(ann)
    assert browser.get(path).status_code in (302, 401)
    assert browser.get("/admin/").headers["Location"].startswith("/admin/login/")


@pytest.mark.parametrize("path", PAGES)
def test_required_of_staff_it_holds_back_every_page(ann: User, settings: Any, path: str) -> None:
    settings.STAFF_TOTP_REQUIRED = True
    browser = browse("ann")
    answer = browser.get(path)
    if path.startswith("/api/"):
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "second_factor_required")
    else:
        assert (answer.status_code, answer.headers["Location"]) == (302, "/admin/second-factor/")
    part = browser.get(path, headers={"HX-Request": "true"})
    assert path.startswith("/api/") or part.headers["HX-Redirect"] == "/admin/second-factor/"


@pytest.mark.parametrize("path", PAGES)
def test_a_reset_ends_the_sessions_that_have_proved_it(ann: User, app: App, path: str) -> None:
    browser = browse("ann", app.code(NOW))
    assert browser.get(path).status_code == 200
    call_command("reset_totp", "ann", stdout=StringIO())
    assert browser.get(path).status_code in (302, 401)
    assert browser.get("/admin/").headers["Location"].startswith("/admin/login/")
    assert browse("ann").get(path).status_code == 200


def test_a_new_second_factor_does_not_bring_such_a_session_back(ann: User, app: App, clock: SimpleNamespace) -> None:
    old = browse("ann", app.code(NOW))
    second_factor.reset(ann, "root")
    new = add_app(ann)
    clock.now = NOW + STEP_S
    assert browse("ann", new.code(clock.now)).get("/admin/").status_code == 200
    assert old.get("/admin/").status_code == 302


def test_a_reset_leaves_the_sessions_of_others(ann: User, app: App) -> None:
    bob = make_operator("bob")
    browser = Client()
    browser.force_login(bob)
    add_app(bob)
    prove(browser, bob)
    second_factor.reset(ann, "root")
    assert browser.get("/admin/").status_code == 200


def test_a_stream_needs_it_too(ann: User, app: App, settings: Any) -> None:
    make_shard()
    job = make_job(ann.memberships.get().tenant)
    before, after = Client(), browse("ann", app.code(NOW))
    before.force_login(ann)
    assert by_session(str(before.session.session_key), job.public_id) is None
    assert by_session(str(after.session.session_key), job.public_id) is not None
    settings.STAFF_TOTP_REQUIRED = True
    TotpDevice.objects.all().delete()
    assert by_session(str(before.session.session_key), job.public_id) is None


def test_members_who_are_no_staff_need_none(ann: User, settings: Any) -> None:
    settings.STAFF_TOTP_REQUIRED = True
    User.objects.update(is_staff=False)
    assert browse("ann").get("/jobs/").status_code == 200
