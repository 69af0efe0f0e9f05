"""Rows of models by hand-written statements, for the few calls that come so often that compiling them counts."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, Generic, TypeVar

import psycopg
from django.db import connection
from django.db.models import Model

M = TypeVar("M", bound=Model)


class Columns(Generic[M]):
    """Some columns of a model; what is not among them is read when somebody asks for it.

    Columns with a conversion of Django's, such as JSON, cannot be among them.

    Args:
        model: whose.
        names: of the columns, in any order.
    """

    def __init__(self, model: type[M], *names: str) -> None:
        self._model = model
        # What Django makes instances from must come in the order of its fields.
        self._names = [field.attname for field in model._meta.concrete_fields if field.attname in names]
        if len(self._names) != len(names):
            raise ValueError(f"{model.__name__} has not all of the columns {names}")

    def __len__(self) -> int:
        return len(self._names)

    def of(self, alias: str) -> str:
        """The columns for a SELECT, of the table with this alias."""
        return ", ".join(f"{alias}.{name}" for name in self._names)

    def instance(self, values: Any) -> M:
        """Make an instance from the columns' values."""
        return self._model.from_db("default", self._names, values)


Row = tuple[Any, ...]


def one_row(statement: str, values: Sequence[Any]) -> Row | None:
    """Run a statement that PostgreSQL keeps prepared, and return its first row, if it has one.

    Django's own cursor writes the values into the text, which PostgreSQL reads and plans anew each time.
    """
    connection.ensure_connection()
    with connection.wrap_database_errors, psycopg.Cursor(connection.connection) as cursor:
        cursor.execute(statement.encode(), values, prepare=True)
        return _first(cursor)


def at_once(*statements: tuple[str, Sequence[Any]]) -> list[Row | None]:
    """Run statements as one transaction and one way to the database, and return the first row of each, if it has one.

    Each sees what others had committed before it began, and so what one waited for is seen by the next. Outside of
    ``transaction.atomic`` they are a transaction of their own.
    """
    connection.ensure_connection()
    open_connection: psycopg.Connection[Any] = connection.connection
    with connection.wrap_database_errors, open_connection.pipeline() as pipeline:
        cursors = [psycopg.Cursor(open_connection) for _ in statements]
        for cursor, (statement, values) in zip(cursors, statements, strict=True):
            cursor.execute(statement.encode(), values, prepare=True)
        # What failed raises here, and nothing of it stays.
        pipeline.sync()
        return [_first(cursor) for cursor in cursors]


def _first(cursor: psycopg.Cursor[Row]) -> Row | None:
    result = cursor.pgresult
    # Of ``description`` an object a column is made; whether there are any says this one.
    return cursor.fetchone() if result is not None and result.nfields else None


@cache
def _insert_of(model: type[Model]) -> tuple[str, tuple[Any, ...]]:
    fields = tuple(field for field in model._meta.concrete_fields if not field.primary_key)
    names = ", ".join(connection.ops.quote_name(field.column or field.name) for field in fields)
    places = ", ".join(["%s"] * len(fields))
    table = connection.ops.quote_name(model._meta.db_table)
    return f"INSERT INTO {table} ({names}) VALUES ({places}) RETURNING id", fields  # noqa: S608  # the model's own names


def insert(instance: Model) -> None:
    """Store a new row as ``save(force_insert=True)`` does, and set its id.

    Django compiles an INSERT anew each time, which takes it longer than PostgreSQL needs to do it. Here every field
    must have a value: what the database would set by itself is not known before.
    """
    statement, fields = _insert_of(type(instance))
    values = [field.get_db_prep_save(field.pre_save(instance, add=True), connection) for field in fields]
    row = one_row(statement, values)
    assert row is not None  # noqa: S101  # it returns the id, or raises
    instance.pk = row[0]
    instance._state.adding, instance._state.db = False, "default"
