"""Rows of models by hand-written statements, for the few calls that come so often that compiling them counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Generic, NamedTuple, TypeVar

import psycopg
from django.db import DEFAULT_DB_ALIAS, connection, connections
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
    # Found once: where a thread's connection is costs more to look up than a value to send.
    database = connections[DEFAULT_DB_ALIAS]
    database.ensure_connection()
    with database.wrap_database_errors, psycopg.Cursor(database.connection) as cursor:
        cursor.execute(statement.encode(), values, prepare=True)
        return _first(cursor)


def at_once(*statements: tuple[str, Sequence[Any]]) -> list[Row | None]:
    """Run statements as one transaction and one way to the database, and return the first row of each, if it has one.

    Each sees what others had committed before it began, and so what one waited for is seen by the next. When PostgreSQL
    refuses one, nothing of those before it stays; a value that cannot be sent at all must come before what writes.
    Outside of ``transaction.atomic`` they are a transaction of their own.
    """
    database = connections[DEFAULT_DB_ALIAS]
    database.ensure_connection()
    open_connection: psycopg.Connection[Any] = database.connection
    cursors = [psycopg.Cursor(open_connection) for _ in statements]
    with database.wrap_database_errors:
        # What failed raises when the pipeline ends.
        with open_connection.pipeline():
            for cursor, (statement, values) in zip(cursors, statements, strict=True):
                cursor.execute(statement.encode(), values, prepare=True)
        return [_first(cursor) for cursor in cursors]


def _first(cursor: psycopg.Cursor[Row]) -> Row | None:
    result = cursor.pgresult
    # Of ``description`` an object a column is made; whether there are any says this one.
    return cursor.fetchone() if result is not None and result.nfields else None


class Term(NamedTuple):
    """A piece of SQL with its values."""

    sql: str
    values: Sequence[Any] = ()


@cache
def _insert_of(model: type[Model], terms: tuple[tuple[str, str], ...], condition: str) -> tuple[str, tuple[Any, ...]]:
    """A statement, and the fields whose values come first in it."""
    made = dict(terms)
    fields = tuple(
        field for field in model._meta.concrete_fields if not field.primary_key and field.attname not in made
    )
    quote = connection.ops.quote_name
    names = ", ".join(map(quote, [*(field.column or field.name for field in fields), *made]))
    values = ", ".join([*["%s"] * len(fields), *made.values()])
    told = ", ".join(["id", *map(quote, made)])
    table = quote(model._meta.db_table)
    where = f"WHERE {condition}" if condition else ""
    return f"INSERT INTO {table} ({names}) SELECT {values} {where} RETURNING {told}", fields  # our own names


def insert(instance: Model, terms: Mapping[str, Term] | None = None, only_if: Term | None = None) -> bool:
    """Store a new row as ``save(force_insert=True)`` does, and set its id.

    Django compiles an INSERT anew each time, which takes it longer than PostgreSQL needs to do it. Here every field
    must have a value, or a term: what the database would set by itself is not known before.

    Args:
        instance: without an id.
        terms: by column, what the database computes; the instance gets the values.
        only_if: a condition of SQL.

    Returns:
        False when the condition does not hold, and nothing was stored.
    """
    made, condition = terms or {}, only_if or Term("")
    statement, fields = _insert_of(type(instance), tuple((name, made[name].sql) for name in made), condition.sql)
    database = connections[DEFAULT_DB_ALIAS]
    values = [field.get_db_prep_save(field.pre_save(instance, add=True), database) for field in fields]
    computed = [value for term in made.values() for value in term.values]
    row = one_row(statement, [*values, *computed, *condition.values])
    if row is None:
        return False
    instance.pk = row[0]
    for name, value in zip(made, row[1:], strict=True):
        setattr(instance, name, value)
    instance._state.adding, instance._state.db = False, "default"
    return True
