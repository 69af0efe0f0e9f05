"""Connections to PostgreSQL that keep the plans of prepared statements."""

from __future__ import annotations

from typing import Any, Self

import psycopg


class PlanKeepingConnection(psycopg.Connection[Any]):
    """Connection that plans a prepared statement once for all values, and again after each analysis of its tables.

    By default, PostgreSQL compares the estimated costs of both ways. Once it has analyzed our tables, it plans the most
    frequent statements at every execution, which doubles their cost.
    Source: https://www.postgresql.org/docs/current/sql-prepare.html
    """

    @classmethod
    def connect(cls, conninfo: str = "", **options: Any) -> Self:
        connection = super().connect(conninfo, **options)
        # PgBouncer refuses the setting as a startup parameter.
        connection.execute("SET plan_cache_mode = force_generic_plan")
        return connection
