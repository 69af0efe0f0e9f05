"""Statements stay prepared, although Django disables prepared statements by default."""

from __future__ import annotations

import pytest
from django.db import connection

from myctobot.lib.sql import fetch_one

pytestmark = pytest.mark.django_db

_STATEMENT = "SELECT %s::int + 1 AS kept"


def prepared() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE %s", ["SELECT $1::int + 1%"])
        (count,) = cursor.fetchone()
    return int(count)


def test_a_statement_is_prepared_once() -> None:
    before = prepared()
    assert [fetch_one(_STATEMENT, [n]) for n in (1, 2, 3)] == [(2,), (3,), (4,)]
    assert prepared() == before + 1


def test_what_django_writes_is_not_prepared() -> None:
    for _ in range(8):
        with connection.cursor() as cursor:
            cursor.execute(_STATEMENT, [1])
    assert prepared() == 0


@pytest.mark.django_db(transaction=True)
def test_an_analysis_of_the_tables_does_not_make_postgresql_plan_each_execution() -> None:
    statement = "SELECT count(*) FROM jobs_job WHERE tenant_id = %s AND status = 'queued'"
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE jobs_job")
    for _ in range(20):
        fetch_one(statement, [1])
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT generic_plans, custom_plans FROM pg_prepared_statements WHERE statement LIKE %s",
            ["%count(*) FROM jobs_job WHERE tenant_id = $1%"],
        )
        assert cursor.fetchall() == [(20, 0)]


def test_a_statement_without_rows() -> None:
    assert fetch_one("UPDATE tenants_tenant SET name = name WHERE id = %s", [-1]) is None
    assert fetch_one("SELECT 1 WHERE %s", [False]) is None
