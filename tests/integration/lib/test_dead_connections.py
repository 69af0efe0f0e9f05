"""Connections of the pool whose server process has ended while they were not used."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from django.db import OperationalError, connection, connections

from myctobot.lib.postgres import connection as connections_module
from myctobot.lib.postgres.connection import PATIENT_S, PlanKeepingConnection
from myctobot.lib.sql import fetch_one

pytestmark = pytest.mark.django_db(transaction=True)

SIZE = 6


@pytest.fixture
def alias() -> Iterator[str]:
    """Give the thread of the test a pool of its own."""
    own = connections["default"].copy("dead")
    own.settings_dict["OPTIONS"]["pool"] = {**own.settings_dict["OPTIONS"]["pool"], "max_size": SIZE}
    before = connections["default"]
    connections["dead"] = connections["default"] = own
    yield "dead"
    own.close()
    own.close_pool()  # type: ignore[attr-defined]  # PostgreSQL only
    connections["default"] = before
    del connections["dead"]


def fill_the_pool(alias: str) -> list[int]:
    """Open all connections of the pool, give them back, and return their server processes."""
    pool = connections[alias].pool  # type: ignore[attr-defined]  # PostgreSQL only
    pool.open()
    opened = [pool.getconn() for _ in range(SIZE)]
    for one in opened:
        pool.putconn(one)
    return [one.info.backend_pid for one in opened]


def backend() -> int:
    row = fetch_one("SELECT pg_backend_pid()", ())
    connection.close()
    assert row
    return int(row[0])


def end(pids: list[int]) -> None:
    with psycopg.connect(**connection.get_connection_params(), autocommit=True) as own:
        for pid in pids:
            own.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])


def test_no_caller_gets_one_of_them(alias: str) -> None:
    dead = fill_the_pool(alias)
    end(dead)
    began = time.monotonic()
    assert not {backend() for _ in range(3 * SIZE)} & set(dead)
    assert time.monotonic() - began < PATIENT_S


def test_a_message_from_the_server_is_no_reason_to_drop_one(alias: str) -> None:
    alive = fill_the_pool(alias)
    with psycopg.connect(**connection.get_connection_params(), autocommit=True) as own:
        # The server reports this change to its clients.
        own.execute("ALTER SYSTEM SET timezone = 'Europe/Berlin'")
        own.execute("ALTER SYSTEM RESET timezone")
        own.execute("SELECT pg_reload_conf()")
    assert {backend() for _ in range(2 * SIZE)} <= set(alive)


def test_a_living_one_costs_no_round_trip(alias: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fill_the_pool(alias)
    backend()
    statements: list[object] = []
    monkeypatch.setattr(PlanKeepingConnection, "execute", lambda self, query, *_: statements.append(query))
    connection.ensure_connection()
    connection.close()
    assert statements == []


def test_one_that_was_idle_for_long_is_asked(alias: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fill_the_pool(alias)
    monkeypatch.setattr(connections_module, "IDLE_S", -1.0)
    asked: list[object] = []
    execute: Callable[..., Any] = PlanKeepingConnection.execute

    def counted(*values: Any) -> Any:
        asked.append(values[1])
        return execute(*values)

    monkeypatch.setattr(PlanKeepingConnection, "execute", counted)
    connection.ensure_connection()
    connection.close()
    assert asked == [b""]


def test_one_that_came_back_without_autocommit_is_asked_in_no_transaction(
    alias: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = connections[alias].pool  # type: ignore[attr-defined]  # PostgreSQL only
    pool.open()
    opened = [pool.getconn() for _ in range(SIZE)]
    for one in opened:
        one.autocommit = False
        pool.putconn(one)
    monkeypatch.setattr(connections_module, "IDLE_S", -1.0)
    assert backend()


def test_during_a_long_outage_a_caller_is_answered_soon(alias: str, monkeypatch: pytest.MonkeyPatch) -> None:
    own = connections[alias]
    monkeypatch.setitem(own.settings_dict, "HOST", "/nonexistent")
    monkeypatch.setattr(PlanKeepingConnection, "_unreachable_since", time.monotonic() - 2 * PATIENT_S)
    began = time.monotonic()
    with pytest.raises(OperationalError):
        own.ensure_connection()
    assert time.monotonic() - began < PATIENT_S / 2


def test_a_new_connection_ends_the_outage(alias: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PlanKeepingConnection, "_unreachable_since", time.monotonic() - 2 * PATIENT_S)
    backend()
    assert PlanKeepingConnection.unreachable_for_s() == 0


def test_many_callers_at_once_find_living_ones(alias: str) -> None:
    dead = fill_the_pool(alias)
    end(dead)
    own, found, errors = connections[alias], list[int](), list[BaseException]()

    def call() -> None:
        # Django asks for the alias itself when it has not seen a connection of that name before.
        connections["default"] = connections[alias] = own.copy(alias)
        try:
            found.append(backend())
        except OperationalError as error:
            errors.append(error)

    threads = [threading.Thread(target=call) for _ in range(SIZE)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert not set(found) & set(dead)
