"""One migrated template database per run, and a clone of it for each process that runs tests.

After a test that commits, ``restore`` resets the clone to the rows of the migrations. It replaces the flush of Django,
which takes a quarter of a second and deletes the rows of the migrations, so that the order of tests would matter.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import psycopg
import pytest
from psycopg.sql import SQL, Identifier
from pytest_django import DjangoDbBlocker

from tests.run import once_per_run

TEMPLATE = "template_of_tests"
# Tables of this size are vacuumed, because dead rows would slow down later tests.
_LARGE_TABLE_BYTES = 1_000_000


@pytest.fixture(scope="session")
def django_db_setup(django_test_environment: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """Clone the template, which the first process that needs it migrates."""
    from django.db import connections  # needs the settings
    from django.test import TransactionTestCase  # needs the settings

    name = str(connections["default"].settings_dict["NAME"])
    with django_db_blocker.unblock(), once_per_run("database-template") as missing:
        if missing:
            _create(TEMPLATE, "template1")
            _migrate(TEMPLATE)
    _create(name, TEMPLATE)
    flush = TransactionTestCase._fixture_teardown  # type: ignore[attr-defined]  # the stubs lack this hook of Django
    with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as connection:
        rows = MigratedRows(connection)
        TransactionTestCase._fixture_teardown = lambda _: rows.restore()  # type: ignore[attr-defined]  # the same hook
        yield
        TransactionTestCase._fixture_teardown = flush  # type: ignore[attr-defined]  # the same hook
    with django_db_blocker.unblock():
        connections.close_all()


@pytest.fixture(autouse=True)
def no_background_threads(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the application of this process from starting threads, whose rows would appear in later tests."""
    if not {"db", "transactional_db"}.isdisjoint(request.fixturenames) or request.node.get_closest_marker("django_db"):
        from myctobot.lib.repeating_thread import RepeatingThread  # needs the settings

        monkeypatch.setattr(RepeatingThread, "start", lambda _: None)


def _create(name: str, template: str) -> None:
    with psycopg.connect(os.environ["DATABASE_URL"], dbname="postgres", autocommit=True) as connection:
        # An interrupted process may have left an incomplete database.
        connection.execute(SQL("DROP DATABASE IF EXISTS {}").format(Identifier(name)))
        connection.execute(SQL("CREATE DATABASE {} TEMPLATE {}").format(Identifier(name), Identifier(template)))


def _migrate(name: str) -> None:
    from django.core.management import call_command  # needs the settings
    from django.db import connection

    own = connection.settings_dict["NAME"]
    connection.settings_dict["NAME"] = name
    try:
        call_command("migrate", verbosity=0, interactive=False)
    finally:
        # A template must have no connections while it is cloned.
        connection.close()
        connection.close_pool()  # type: ignore[attr-defined]  # PostgreSQL only
        connection.settings_dict["NAME"] = own


class MigratedRows:
    """Rows of a newly migrated database, which ``restore`` puts back."""

    def __init__(self, connection: psycopg.Connection) -> None:
        self._connection = connection
        found = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY tablename")
        tables = [name for (name,) in found]
        self._rows = {name: text for name in tables if (text := self._read(name))}
        self._delete = SQL("; ").join(SQL("DELETE FROM {}").format(Identifier(name)) for name in tables)

    def _read(self, table: str) -> bytes:
        with self._connection.cursor().copy(SQL("COPY {} TO STDOUT").format(Identifier(table))) as copy:
            return b"".join(bytes(piece) for piece in copy)

    def restore(self) -> None:
        """Delete what tests committed and put the rows of the migrations back."""
        large = self._large_tables()
        with self._connection.transaction():
            # This disables foreign keys and triggers, because all tables change together.
            self._connection.execute("SET LOCAL session_replication_role = replica; SET LOCAL lock_timeout = '20s'")
            self._connection.execute(self._delete)
            for table, text in self._rows.items():
                with self._connection.cursor().copy(SQL("COPY {} FROM STDIN").format(Identifier(table))) as copy:
                    copy.write(text)
        for table in large:
            self._connection.execute(SQL("VACUUM {}").format(Identifier(table)))

    def _large_tables(self) -> list[str]:
        found = self._connection.execute(
            "SELECT relname FROM pg_stat_user_tables WHERE pg_relation_size(relid) > %s", [_LARGE_TABLE_BYTES]
        )
        return [name for (name,) in found]
