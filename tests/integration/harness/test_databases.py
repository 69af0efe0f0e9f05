"""State of the database after a test that commits."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import LiteralString

import psycopg
import pytest

from tests.databases import MigratedRows

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def connection(transactional_db: None) -> Iterator[psycopg.Connection]:
    with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as connection:
        yield connection


def count(connection: psycopg.Connection, table: LiteralString) -> int:
    found = connection.execute(f"SELECT count(*) FROM {table}").fetchone()  # noqa: S608  # a name of this file
    assert found is not None
    return int(found[0])


def test_rows_of_tests_go_and_rows_of_migrations_come_back(connection: psycopg.Connection) -> None:
    rows = MigratedRows(connection)
    kinds = count(connection, "django_content_type")
    assert kinds > 0
    connection.execute("INSERT INTO auth_group (name) VALUES ('left behind')")
    # Permissions point to them, so that a plain DELETE would be refused.
    connection.execute("SET session_replication_role = replica; DELETE FROM django_content_type")
    rows.restore()
    assert count(connection, "auth_group") == 0
    assert count(connection, "django_content_type") == kinds


@pytest.mark.parametrize("turn", [1, 2])
def test_a_test_does_not_see_what_the_one_before_committed(connection: psycopg.Connection, turn: int) -> None:
    assert count(connection, "auth_group") == 0
    connection.execute("INSERT INTO auth_group (name) VALUES ('left behind')")
