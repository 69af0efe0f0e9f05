"""Attacks on logins: guessing passwords, locking people out, and exhausting connections by hashing."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth import aauthenticate
from django.contrib.auth.models import User
from django.db import connection
from django.http import HttpResponse
from django.test import Client, RequestFactory
from limits.errors import StorageError
from structlog.testing import capture_logs

from myctobot.accounts import backend
from myctobot.accounts.counts import ProcessCounts, redis_counts
from myctobot.accounts.errors import LoginRefused
from myctobot.accounts.limits import LoginLimiter
from tests.factories.control_plane import make_operator
from tests.factories.logins import ELSEWHERE, HOME, PASSWORD, try_login
from tests.fixtures.hashers import HasherState
from tests.fixtures.http_process import wait_until

pytestmark = pytest.mark.usefixtures("hasher", "limiter")

PAGES = ["/login/", "/admin/login/"]
PER_PAIR, PER_ADDRESS, PER_ACCOUNT = 5, 50, 50


@pytest.fixture
def ann(db: None) -> User:
    user = make_operator("ann")
    user.set_password(PASSWORD)
    user.save()
    return user


def log_in(name: str, password: str, address: str = HOME, page: str = "/login/", **headers: str) -> HttpResponse:
    form = {"username": name, "password": password}
    return cast(HttpResponse, Client(REMOTE_ADDR=address).post(page, form, headers=headers))


def guess(times: int, name: str = "ann", address: str = ELSEWHERE) -> list[str]:
    return [try_login(name, f"wrong {number}", address) for number in range(times)]


def use_address(number: int) -> str:
    return f"203.0.113.{number}"


def sentence_of(answer: HttpResponse) -> str:
    sentences = r"Too many attempts to log in\. Try again in \d+ s\.|The user name, the password or the code is wrong"
    found = re.search(sentences, answer.text)
    assert found, answer.text
    return re.sub(r"\d+", "N", found[0])


@pytest.mark.parametrize("page", PAGES)
def test_guessing_ends_before_the_right_password_is_hashed(ann: User, hasher: HasherState, page: str) -> None:
    assert [log_in("ann", "wrong", ELSEWHERE, page).status_code for _ in range(PER_PAIR)] == [200] * PER_PAIR
    before = hasher.count
    answer = log_in("ann", PASSWORD, ELSEWHERE, page)
    assert (answer.status_code, hasher.count) == (429, before)
    assert 0 < int(answer.headers["Retry-After"]) <= 300
    assert f"Try again in {answer.headers['Retry-After']} s." in answer.text


def test_both_pages_share_the_counts(ann: User) -> None:
    found = [log_in("ann", "wrong", HOME, PAGES[number % 2]).status_code for number in range(PER_PAIR + 1)]
    assert found == [200] * PER_PAIR + [429]


def test_answers_do_not_tell_which_accounts_exist(ann: User, hasher: HasherState) -> None:
    seen = []
    for name in ("ann", "bob"):
        before = hasher.count
        answers = [log_in(name, "wrong", ELSEWHERE) for _ in range(PER_PAIR + 1)]
        seen.append([(answer.status_code, sentence_of(answer)) for answer in answers] + [hasher.count - before])
    assert seen[0] == seen[1]
    assert seen[0][-1] == PER_PAIR


def test_an_inactive_account_costs_the_same(ann: User, hasher: HasherState) -> None:
    User.objects.update(is_active=False)
    before = hasher.count
    assert try_login("ann", PASSWORD) == "wrong"
    assert hasher.count == before + 1


def test_wrong_passwords_from_elsewhere_do_not_lock_the_user_out(ann: User) -> None:
    guess(PER_PAIR + 3)
    assert try_login("ann", PASSWORD, HOME) == "in"


def test_many_addresses_do_not_lock_the_user_out_of_a_known_address(ann: User) -> None:
    assert try_login("ann", PASSWORD, HOME) == "in"
    found = [guess(PER_PAIR, address=use_address(number)) for number in range(PER_ACCOUNT // PER_PAIR + 1)]
    # The last address has not been used, but the account has reached its limit.
    assert found[-1] == ["refused"] * PER_PAIR
    assert try_login("ann", PASSWORD, HOME) == "in"


def test_an_address_cannot_try_every_account(ann: User, hasher: HasherState) -> None:
    found = [try_login(f"user-{number}", "Password1", ELSEWHERE) for number in range(PER_ADDRESS + 1)]
    assert found == ["wrong"] * PER_ADDRESS + ["refused"]
    assert try_login("ann", PASSWORD, HOME) == "in"


def test_one_ipv6_network_is_one_address(ann: User) -> None:
    found = [try_login("ann", "wrong", f"2001:db8::{number}") for number in range(1, PER_PAIR + 2)]
    assert found == ["wrong"] * PER_PAIR + ["refused"]


def test_a_forged_header_gives_no_new_address(ann: User, settings: Any) -> None:
    for number in range(PER_PAIR):
        try_login("ann", "wrong", ELSEWHERE, **{"X-Forwarded-For": use_address(number)})
    assert try_login("ann", PASSWORD, ELSEWHERE) == "refused"
    settings.BEHIND_PROXY = True
    forged = {"X-Forwarded-For": f"{use_address(99)}, {ELSEWHERE}"}
    assert try_login("ann", PASSWORD, "127.0.0.1", **forged) == "refused"


def test_a_login_forgets_the_failures_before_it(ann: User) -> None:
    for _ in range(3):
        assert guess(PER_PAIR - 1, address=HOME) == ["wrong"] * (PER_PAIR - 1)
        assert try_login("ann", PASSWORD, HOME) == "in"


def test_the_processes_share_the_counts(ann: User) -> None:
    for number in range(PER_PAIR):
        # Another process has counters of its own, and the same Redis.
        backend.login_limiter.cache_clear()
        assert try_login("ann", f"wrong {number}") == "wrong"
    backend.login_limiter.cache_clear()
    assert try_login("ann", PASSWORD) == "refused"


def test_asynchronous_callers_have_the_same_limits(ann: User) -> None:
    request = RequestFactory(REMOTE_ADDR=ELSEWHERE).post("/login/")
    guess(PER_PAIR)
    with pytest.raises(LoginRefused):
        async_to_sync(aauthenticate)(request, username="ann", password=PASSWORD)


class BrokenCounts(ProcessCounts):
    """Counters of a Redis that does not answer."""

    def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        raise StorageError(ConnectionError("refused"))

    def get(self, key: str) -> int:
        raise StorageError(ConnectionError("refused"))


def test_without_redis_logins_are_slow_and_still_limited(ann: User, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    broken = LoginLimiter(BrokenCounts(), sleep=waits.append)
    monkeypatch.setattr(backend, "login_limiter", lambda: broken)
    assert guess(PER_PAIR + 1) == ["wrong"] * PER_PAIR + ["refused"]
    assert try_login("ann", PASSWORD, HOME) == "in"
    assert waits == [2.0] * (PER_PAIR + 1)


def test_a_redis_that_refuses_connections_is_noticed(ann: User, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    # Nothing listens on port 1.
    alone = LoginLimiter(redis_counts("redis://127.0.0.1:1/0"), sleep=waits.append)
    monkeypatch.setattr(backend, "login_limiter", lambda: alone)
    assert guess(PER_PAIR + 1) == ["wrong"] * PER_PAIR + ["refused"]
    assert len(waits) == PER_PAIR


def test_failures_are_logged_without_the_password(ann: User) -> None:
    name = "x" * 100 + "\n"
    with capture_logs() as lines:
        try_login("ann", "my wrong password")
        try_login(name, "my wrong password")
    failed = [(line["account"], line["address"]) for line in lines if line["event"] == "login.failed"]
    assert failed == [("ann", HOME), ("x" * 64, HOME)]
    assert "my wrong password" not in str(lines)


def test_a_name_cannot_forge_a_line_of_the_log(ann: User, limiter: LoginLimiter) -> None:
    with capture_logs() as lines, limiter.attempt("ann\nlogin.ok\x1b", HOME) as attempt:
        limiter.failed(attempt)
    assert lines[0]["account"] == "ann?login.ok?"


def test_refusals_do_not_fill_the_log(ann: User) -> None:
    with capture_logs() as lines:
        guess(PER_PAIR + 20)
    assert [line["event"] for line in lines if line["event"].startswith("login.")] == [
        *["login.failed"] * PER_PAIR,
        "login.refused",
    ]


def test_the_old_password_of_a_change_has_the_same_limits(ann: User) -> None:
    browser = Client(REMOTE_ADDR=HOME)
    browser.force_login(ann)
    new = {"new_password1": "another horse 9", "new_password2": "another horse 9"}
    path = "/admin/password_change/"
    found = [browser.post(path, {"old_password": "wrong", **new}).status_code for _ in range(PER_PAIR)]
    assert found == [200] * PER_PAIR
    answer = browser.post(path, {"old_password": PASSWORD, **new})
    assert (answer.status_code, "Retry-After" in answer.headers) == (429, True)
    ann.refresh_from_db()
    assert ann.check_password(PASSWORD)


def connections_in_use() -> int:
    # The thread of the test has none.
    connection.close()
    stats = connection.pool.get_stats()  # type: ignore[attr-defined]  # PostgreSQL only
    return int(stats["pool_size"] - stats["pool_available"])


@pytest.mark.django_db(transaction=True)
def test_wrong_passwords_at_once_hold_no_connection_and_two_threads(ann: User, hasher: HasherState) -> None:
    attackers = 17

    def attack(number: int) -> str:
        try:
            return try_login("ann", "wrong", use_address(number))
        finally:
            connection.close()

    hasher.gate.clear()
    hasher.threads.clear()
    with ThreadPoolExecutor(attackers) as pool:
        answers = [pool.submit(attack, number) for number in range(attackers)]
        try:
            assert wait_until(lambda: hasher.running == 2)
            assert wait_until(lambda: backend.login_limiter().running == attackers)
            assert wait_until(lambda: connections_in_use() == 0)
            assert Client().get("/healthz").status_code == 200
        finally:
            hasher.gate.set()
    assert [answer.result() for answer in answers] == ["wrong"] * attackers
    assert hasher.most_at_once == 2
    assert all(name.startswith("password-hash") for name in hasher.threads)


@pytest.mark.django_db(transaction=True)
def test_one_address_does_not_occupy_all_logins(ann: User, hasher: HasherState) -> None:
    def attack(number: int) -> str:
        try:
            return try_login(f"user-{number}", "wrong", ELSEWHERE)
        finally:
            connection.close()

    hasher.gate.clear()
    with ThreadPoolExecutor(4) as pool:
        answers = [pool.submit(attack, number) for number in range(4)]
        try:
            assert wait_until(lambda: backend.login_limiter().running == 4)
            refused = log_in("ann", PASSWORD, ELSEWHERE)
        finally:
            hasher.gate.set()
    assert (refused.status_code, refused.headers["Retry-After"]) == (429, "5")
    assert [answer.result() for answer in answers] == ["wrong"] * 4
    assert try_login("ann", PASSWORD, HOME) == "in"
