"""Health checks of real processes, while the database hangs, refuses writes, or is away."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import psycopg
import pytest
from django.conf import settings
from django.db import connection, connections

from myctobot.tenants.models import ApiKey
from myctobot.web import health
from myctobot.web.health import ask_database
from tests.factories.control_plane import make_tenant
from tests.fixtures.http_process import WEB, HttpProcess, RawConnection, http_process, wait_until

SHARDS = "myctobot.asgi_shards:application"
HEALTH = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
LIMITS = {"STATEMENT_TIMEOUT_S": "2", "CONCURRENT_CALLS": "4", "CONCURRENT_CALLS_PER_KEY": "4"}

pytestmark = pytest.mark.django_db(transaction=True)


@contextmanager
def locked_tables() -> Iterator[None]:
    """Let every statement on tenants wait, as a server does whose processes hang with locks."""
    with psycopg.connect(**connection.get_connection_params()) as own:
        own.execute("LOCK TABLE tenants_tenant IN ACCESS EXCLUSIVE MODE")
        yield
        own.rollback()


def status(process: HttpProcess) -> tuple[int, str | None, float]:
    began = time.monotonic()
    answer = process.ask(HEALTH)
    return answer.status, answer.headers.get("retry-after"), time.monotonic() - began


@pytest.mark.parametrize("application", [WEB, SHARDS], ids=["web", "shards"])
def test_it_fails_in_time_while_the_database_hangs_and_all_turns_are_taken(application: str) -> None:
    key = ApiKey.create(make_tenant(), "test")[1]
    call = f"GET /api/v1/jobs HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n\r\n".encode()
    with http_process(application, LIMITS) as process:
        assert status(process)[0] == 200
        with locked_tables(), ExitStack() as stack:
            for _ in range(30):
                stack.enter_context(process.connect()).send(call)
            assert wait_until(lambda: status(process)[:2] == (503, "5"))
            assert max(status(process)[2] for _ in range(3)) < 8
        assert wait_until(lambda: status(process)[0] == 200)


def test_a_call_whose_statement_hangs_ends() -> None:
    key = ApiKey.create(make_tenant(), "test")[1]
    call = f"GET /api/v1/jobs HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n\r\n".encode()
    with http_process(WEB, LIMITS) as process, locked_tables():
        assert process.ask(call).status >= 500


def test_a_flood_costs_few_questions(monkeypatch: pytest.MonkeyPatch) -> None:
    def opened() -> int:
        with connection.cursor() as cursor:
            cursor.execute("SELECT sessions FROM pg_stat_database WHERE datname = current_database()")
            return int(cursor.fetchone()[0])

    with http_process(WEB, {}) as process:
        before, began = opened(), time.monotonic()
        threads = [threading.Thread(target=_flood, args=[process.port]) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        took_s = time.monotonic() - began
        assert opened() - before <= took_s + 3


def test_a_check_needs_room_on_the_disk_of_the_database() -> None:
    def written() -> int:
        with connection.cursor() as cursor:
            cursor.execute("SELECT temp_files FROM pg_stat_database WHERE datname = current_database()")
            return int(cursor.fetchone()[0])

    before = written()
    assert ask_database() is None
    # A server process counts its files when it ends.
    assert wait_until(lambda: written() > before)


def test_a_full_disk_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    raised = b"DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = 'disk_full'; END $$"
    monkeypatch.setattr(health, "_TEMPORARY_FILE", raised)
    assert ask_database() == "PostgreSQL's disk is full."


def test_a_limit_on_temporary_files_is_no_full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    raised = b"DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = 'configuration_limit_exceeded'; END $$"
    monkeypatch.setattr(health, "_TEMPORARY_FILE", raised)
    assert ask_database() is None


def _flood(port: int) -> None:
    for _ in range(50):
        with RawConnection(port) as client:
            client.send(HEALTH)
            assert client.answer().status == 200


def test_a_read_only_database_is_a_problem() -> None:
    name = str(settings.DATABASES["default"]["NAME"])
    with psycopg.connect(**connection.get_connection_params(), autocommit=True) as own:
        own.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
        try:
            assert ask_database() == "PostgreSQL is read-only."
        finally:
            own.execute(f'ALTER DATABASE "{name}" RESET default_transaction_read_only')
    assert ask_database() is None


def test_a_database_that_is_away_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        # This server accepts connections and says nothing.
        address = {"HOST": "127.0.0.1", "PORT": listener.getsockname()[1]}
        default = connections["default"]
        monkeypatch.setattr(default, "settings_dict", {**default.settings_dict, **address})
        assert ask_database() == "PostgreSQL does not answer."
    assert ask_database() == "PostgreSQL does not answer."


def test_the_body_says_why() -> None:
    with http_process(SHARDS, LIMITS) as process, locked_tables():
        assert wait_until(lambda: status(process)[0] == 503)
        body = json.loads(process.ask(HEALTH).body)
        assert body == {"status": "failed", "problem": "PostgreSQL does not answer."}
