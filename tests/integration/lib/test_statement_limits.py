"""Limits on statements: of a server that answers, of one that hangs, of each process, and of long work."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import psycopg
import pytest
from django.db import OperationalError, connection, transaction
from django.db.utils import DatabaseError

from myctobot.lib.postgres import connection as connections_module
from myctobot.lib.postgres.connection import PlanKeepingConnection, connection_class
from myctobot.lib.postgres.limits import LONG_S, long_statements
from myctobot.lib.sql import fetch_one, run_pipeline
from myctobot.stack.plan import CHECKOUT
from myctobot.web.threads import RequestThreads

LIMIT_S = 0.3


@pytest.fixture
def limited(db: None) -> Iterator[PlanKeepingConnection]:
    with connection_class(LIMIT_S).connect(**connection.get_connection_params(), autocommit=True) as opened:
        yield opened


def test_a_long_statement_is_cancelled(limited: PlanKeepingConnection) -> None:
    with pytest.raises(psycopg.errors.QueryCanceled):
        limited.execute("SELECT pg_sleep(20)")
    assert limited.execute("SELECT 1").fetchone() == (1,)


def test_the_plans_are_kept(limited: PlanKeepingConnection) -> None:
    assert limited.execute("SHOW plan_cache_mode").fetchone() == ("force_generic_plan",)


def test_a_server_process_that_hangs_delays_no_caller_longer(
    limited: PlanKeepingConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections_module, "GRACE_S", 0.2)
    limited.limit_statements(LIMIT_S)
    backend = limited.info.backend_pid
    os.kill(backend, signal.SIGSTOP)
    began = time.monotonic()
    try:
        with pytest.raises(psycopg.OperationalError, match=r"did not answer within 0\.5 s"):
            limited.execute("SELECT 1")
    finally:
        os.kill(backend, signal.SIGCONT)
    assert time.monotonic() - began < 10
    assert limited.closed


@pytest.mark.anyio
@pytest.mark.django_db(transaction=True)
async def test_after_a_hanging_server_process_the_next_call_has_another_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connections_module, "GRACE_S", 0.2)
    threads = RequestThreads(1, pool="of_hanging", statement_timeout_s=LIMIT_S)
    backend: int = (await threads.run(fetch_one, "SELECT pg_backend_pid()", ()) or (0,))[0]
    os.kill(backend, signal.SIGSTOP)
    try:
        with pytest.raises(OperationalError):
            await threads.run(run_pipeline, ("SELECT 1", ()), ("SELECT 2", ()))
        assert await threads.run(fetch_one, "SELECT pg_backend_pid() <> %s", (backend,)) == (True,)
    finally:
        os.kill(backend, signal.SIGCONT)
    await threads.run(lambda: connection.close_pool())  # type: ignore[attr-defined]  # PostgreSQL only


PROCESSES = {
    "myctobot.asgi": ("import myctobot.asgi", "30s"),
    "myctobot.asgi_shards": ("import myctobot.asgi_shards", "30s"),
    "the pool of the shard API": (
        "import asyncio, myctobot.asgi as web; from jobs.shard_api.limited import limited_shard_api\n"
        "from django.conf import settings; from myctobot.web.process_caches import ProcessCaches\n"
        "from myctobot.web.error_pages import refused_call\n"
        "found = limited_shard_api(ProcessCaches(), settings.CALL_LIMITS, refused_call, behind_proxy=False)\n"
        "limit = lambda: asyncio.run(found._app._threads.run(read))",
        "10s",
    ),
    "myctobot.asgi_gateway": ("import myctobot.asgi_gateway", "30s"),
    "workers of the control plane": (
        "import django; django.setup(); from myctobot.celery import app\n"
        "from celery.signals import worker_init; worker_init.send(sender=None)",
        "1min",
    ),
    "commands": ("import django; django.setup()", "0"),
}
SCRIPT = """
def read():
    from django.db import connection
    with connection.cursor() as cursor:
        cursor.execute("SHOW statement_timeout")
        return cursor.fetchone()[0]
limit = read
{prepare}
print(limit(), flush=True)
import os; os._exit(0)
"""


@pytest.mark.parametrize("name", PROCESSES)
def test_each_process_has_its_limit_and_commands_have_none(name: str, db: None) -> None:
    prepare, limit = PROCESSES[name]
    settings = "myctobot.settings.gateway" if "gateway" in name else "myctobot.settings"
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(prepare=prepare)],
        cwd=CHECKOUT,
        env={**os.environ, "DJANGO_SETTINGS_MODULE": settings},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert done.stdout.split() == [limit]


@pytest.fixture
def database(db: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[PlanKeepingConnection]:
    """Return Django's connection of this test, as a process with limits has it."""
    connection.ensure_connection()
    opened: PlanKeepingConnection = connection.connection
    opened.limit_statements(LIMIT_S)
    # The pool may open further connections of the same class, which other tests get.
    monkeypatch.setattr(opened, "statement_timeout_s", LIMIT_S)
    yield opened
    # Another test may get this connection.
    opened.limit_statements(0)


def current_limit() -> float:
    with connection.cursor() as cursor:
        cursor.execute("SELECT setting::float / 1000 FROM pg_settings WHERE name = 'statement_timeout'")
        return float(cursor.fetchone()[0])


def test_long_work_has_a_longer_limit_of_its_own(database: PlanKeepingConnection) -> None:
    assert current_limit() == LIMIT_S
    with long_statements():
        assert current_limit() == LONG_S
    assert current_limit() == LIMIT_S


@pytest.mark.django_db(transaction=True)
def test_long_work_that_fails_leaves_the_short_limit(database: PlanKeepingConnection) -> None:
    with pytest.raises(DatabaseError), transaction.atomic(), long_statements():
        fetch_one("SELECT 1/0", ())
    assert current_limit() == LIMIT_S
    with pytest.raises(OperationalError):
        fetch_one("SELECT pg_sleep(20)", ())
