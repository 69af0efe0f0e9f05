"""Prepared statements and rows of models, for frequent calls where Django's compilation of queries costs too much."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Generic, NamedTuple, TypeVar

import psycopg
from django.db import DEFAULT_DB_ALIAS, connection, connections
from django.db.models import Model

M = TypeVar("M", bound=Model)


class ColumnSet(Generic[M]):
    """Some columns of a model; Django reads the others when they are used.

    Columns that Django converts, such as JSON, are not allowed.

    Args:
        model: owner of the columns.
        names: attribute names, in any order.

    Raises:
        ValueError: the model lacks one of them.
    """

    def __init__(self, model: type[M], *names: str) -> None:
        self._model = model
        # Django makes instances from values in the order of the fields.
        fields = [field for field in model._meta.concrete_fields if field.attname in names]
        self._names = [field.attname for field in fields]
        # A renamed field keeps its column.
        self._columns = [str(field.column) for field in fields]
        if len(self._names) != len(names):
            raise ValueError(f"{model.__name__} has not all of the columns {names}")

    def __len__(self) -> int:
        return len(self._names)

    def of(self, alias: str) -> str:
        """Return the columns for a SELECT, of the table with this alias."""
        return ", ".join(f"{alias}.{column}" for column in self._columns)

    def instance(self, values: Any) -> M:
        """Return an instance with these values of the columns."""
        return self._model.from_db("default", self._names, values)


Row = tuple[Any, ...]
# By position for ``%s``, by name for ``%(name)s``.
Values = Sequence[Any] | Mapping[str, Any]


def without_index(column: str) -> str:
    """Return an SQL expression that equals a column and that PostgreSQL looks up in no index.

    Statements that find their row by a key compare further columns of it. While a table is new, PostgreSQL estimates
    that an index on such a column holds one row. A prepared statement keeps the plan that it chose then, and scans that
    index for as long as the connection lives.
    """
    return f"COALESCE({column}, {column})"


def fetch_one(statement: str, values: Values) -> Row | None:
    """Run a prepared statement, and return its first row; None if it has none.

    Django's own cursor writes the values into the text, which PostgreSQL parses and plans each time.
    """
    # The lookup of the thread's connection costs more than sending a value, so it happens once.
    database = connections[DEFAULT_DB_ALIAS]
    database.ensure_connection()
    with database.wrap_database_errors, psycopg.Cursor(database.connection) as cursor:
        cursor.execute(statement.encode(), values, prepare=True)
        return _first(cursor)


def run_pipeline(*statements: tuple[str, Values]) -> list[Row | None]:
    """Run statements in one transaction and one round trip, and return the first row of each; None if it has none.

    Each statement sees all that others committed before it began, so it also sees the change that an earlier statement
    waited for. If PostgreSQL refuses one, the transaction is rolled back. A value that cannot be converted must come
    before the first write. Outside ``transaction.atomic`` the statements are a transaction of their own.
    """
    database = connections[DEFAULT_DB_ALIAS]
    database.ensure_connection()
    open_connection: psycopg.Connection[Any] = database.connection
    cursors = [psycopg.Cursor(open_connection) for _ in statements]
    with database.wrap_database_errors:
        # An error is raised when the pipeline ends.
        with open_connection.pipeline():
            for cursor, (statement, values) in zip(cursors, statements, strict=True):
                cursor.execute(statement.encode(), values, prepare=True)
        return [_first(cursor) for cursor in cursors]


def _first(cursor: psycopg.Cursor[Row]) -> Row | None:
    result = cursor.pgresult
    # ``description`` would make an object for each column; ``nfields`` only counts them.
    return cursor.fetchone() if result is not None and result.nfields else None


class SqlFragment(NamedTuple):
    """Part of an SQL statement, with the values of its placeholders."""

    sql: str
    values: Sequence[Any] = ()


@cache
def _insert_of(
    model: type[Model], computed: tuple[tuple[str, str], ...], condition: str
) -> tuple[str, tuple[Any, ...]]:
    """Return a statement, and the fields whose values come first in it."""
    expressions = dict(computed)
    fields = tuple(
        field for field in model._meta.concrete_fields if not field.primary_key and field.attname not in expressions
    )
    quote = connection.ops.quote_name
    names = ", ".join(map(quote, [*(field.column or field.name for field in fields), *expressions]))
    values = ", ".join([*["%s"] * len(fields), *expressions.values()])
    returned = ", ".join(["id", *map(quote, expressions)])
    table = quote(model._meta.db_table)
    where = f"WHERE {condition}" if condition else ""
    return f"INSERT INTO {table} ({names}) SELECT {values} {where} RETURNING {returned}", fields  # our own names


def insert(
    instance: Model, computed: Mapping[str, SqlFragment] | None = None, only_if: SqlFragment | None = None
) -> bool:
    """Store a new row as ``save(force_insert=True)`` does, and set its id.

    Django compiles an INSERT each time, which takes longer than PostgreSQL needs to run it. Every field must have a
    value here or in ``computed``, because defaults of the database are not used.

    Args:
        instance: without an id.
        computed: expressions that the database computes, by column; the instance gets their values.
        only_if: condition of the insert.

    Returns:
        False if the condition does not hold; nothing was stored.
    """
    computed, condition = computed or {}, only_if or SqlFragment("")
    statement, fields = _insert_of(
        type(instance), tuple((name, fragment.sql) for name, fragment in computed.items()), condition.sql
    )
    database = connections[DEFAULT_DB_ALIAS]
    values = [field.get_db_prep_save(field.pre_save(instance, add=True), database) for field in fields]
    of_computed = [value for fragment in computed.values() for value in fragment.values]
    row = fetch_one(statement, [*values, *of_computed, *condition.values])
    if row is None:
        return False
    instance.pk = row[0]
    for name, value in zip(computed, row[1:], strict=True):
        setattr(instance, name, value)
    instance._state.adding, instance._state.db = False, "default"
    return True


def fetch_all(statement: str, *values: Any) -> list[tuple[Any, ...]]:
    """Run a statement with Django's cursor, and return all rows."""
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        rows: list[tuple[Any, ...]] = cursor.fetchall()
    return rows


def execute(statement: str, *values: Any) -> int:
    """Run a statement with Django's cursor, and return the number of changed rows."""
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        changed: int = cursor.rowcount
    return changed
