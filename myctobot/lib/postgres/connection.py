"""Connections to PostgreSQL that keep the plans of prepared statements and bound the time of each statement."""

from __future__ import annotations

from functools import cache
from typing import Any, ClassVar, Final, Self

import psycopg
from psycopg.abc import PQGen
from psycopg.errors import _WaitTimeout

# PostgreSQL cancels a statement itself, unless it hangs. Then the client gives up after this additional time.
GRACE_S: Final = 5.0


class PlanKeepingConnection(psycopg.Connection[Any]):
    """Connection that plans a prepared statement once for all values, and again after each analysis of its tables.

    By default, PostgreSQL compares the estimated costs of both ways. Once it has analyzed our tables, it plans the most
    frequent statements at every execution, which doubles their cost.
    Source: https://www.postgresql.org/docs/current/sql-prepare.html

    Attributes:
        statement_timeout_s: limit on each statement of a new connection; 0 means none.
    """

    statement_timeout_s: ClassVar[float] = 0.0
    _answer_timeout_s: float | None = None

    @classmethod
    def connect(cls, conninfo: str = "", **options: Any) -> Self:
        connection = super().connect(conninfo, **options)
        try:
            # PgBouncer refuses these settings as startup parameters. One message sets both.
            connection._limit(cls.statement_timeout_s, "SET plan_cache_mode = force_generic_plan; ")
        except BaseException:
            connection.close()
            raise
        return connection

    def limit_statements(self, timeout_s: float) -> None:
        """Limit each further statement of this connection; 0 removes the limit.

        Raises:
            psycopg.Error: the connection is broken, or its transaction has failed.
        """
        self._limit(timeout_s)

    def _limit(self, timeout_s: float, before: str = "") -> None:
        self._answer_timeout_s = timeout_s + GRACE_S if timeout_s else None
        self.execute(f"{before}SET statement_timeout = {round(timeout_s * 1000)}".encode())

    def wait(self, gen: PQGen[Any], interval: float = 0.1, timeout: float | None = None) -> Any:
        """Wait for PostgreSQL. If it does not answer in time, close the connection.

        A server process that hangs in the kernel, or behind another one that does, cancels no statement.

        Raises:
            psycopg.OperationalError: there was no answer.
        """
        if timeout is not None or self._answer_timeout_s is None:
            return super().wait(gen, interval, timeout)
        try:
            return super().wait(gen, interval, self._answer_timeout_s)
        except _WaitTimeout as error:
            self.close()
            raise psycopg.OperationalError(
                f"PostgreSQL did not answer within {self._answer_timeout_s:g} s, so the connection was closed"
            ) from error


@cache
def connection_class(statement_timeout_s: float) -> type[PlanKeepingConnection]:
    """Return a class whose connections limit each statement to this many seconds."""
    return type("LimitedConnection", (PlanKeepingConnection,), {"statement_timeout_s": statement_timeout_s})
