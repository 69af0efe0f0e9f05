"""Limits on the duration of the statements of this process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import psycopg
from django.db import DEFAULT_DB_ALIAS, connections
from psycopg.errors import InFailedSqlTransaction

from myctobot.lib.postgres.connection import PlanKeepingConnection, connection_class

# Limit on a statement that an operator or retention runs on many rows.
LONG_S: Final = 600.0


def limit_statements(timeout_s: float) -> None:
    """Limit each statement of this process. Call this before its first connection.

    Commands do not call it, because migrations and the work of operators may take long.
    """
    # All threads share this dictionary, from which Django makes the pool.
    pool = connections.settings[DEFAULT_DB_ALIAS]["OPTIONS"]["pool"]
    pool["connection_class"] = connection_class(timeout_s)


@contextmanager
def long_statements() -> Iterator[None]:
    """Allow statements of ten minutes in the current thread."""
    database = connections[DEFAULT_DB_ALIAS]
    database.ensure_connection()
    opened = database.connection
    if not isinstance(opened, PlanKeepingConnection) or not opened.statement_timeout_s:
        yield
        return
    with database.wrap_database_errors:
        opened.limit_statements(LONG_S)
    try:
        yield
    finally:
        try:
            opened.limit_statements(opened.statement_timeout_s)
        except InFailedSqlTransaction:
            # The limit changed in this transaction, so its rollback restores it.
            pass
        except psycopg.Error:
            # The pool must not get a connection with the longer limit.
            opened.close()
