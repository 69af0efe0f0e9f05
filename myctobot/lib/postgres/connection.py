"""Connections to PostgreSQL that keep the plans of prepared statements and bound the time of each statement."""

from __future__ import annotations

import select
from functools import cache
from time import monotonic
from typing import Any, ClassVar, Final, Self

import psycopg
from psycopg.abc import PQGen
from psycopg.errors import _WaitTimeout

# PostgreSQL cancels a statement itself, unless it hangs. Then the client gives up after this additional time.
GRACE_S: Final = 5.0
# A caller waits this long for a connection, so that most restarts of PostgreSQL only delay calls.
PATIENT_S: Final = 10.0
# The pool's pauses between tries grow. After this time, the next caller starts with a short one.
RECONNECT_S: Final = 5.0
# After this time without use, a network may have dropped a connection without a word.
IDLE_S: Final = 60.0


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
    # Time since which no connection of this process could be opened.
    _unreachable_since: ClassVar[float | None] = None
    _used_at = 0.0

    @classmethod
    def connect(cls, conninfo: str = "", **options: Any) -> Self:
        try:
            connection = super().connect(conninfo, **options)
        except psycopg.Error:
            PlanKeepingConnection._unreachable_since = PlanKeepingConnection._unreachable_since or monotonic()
            raise
        PlanKeepingConnection._unreachable_since = None
        connection._used_at = monotonic()
        try:
            # PgBouncer refuses these settings as startup parameters. One message sets both.
            connection._limit(cls.statement_timeout_s, "SET plan_cache_mode = force_generic_plan; ")
        except BaseException:
            connection.close()
            raise
        return connection

    @staticmethod
    def unreachable_for_s() -> float:
        """Return the seconds since which no connection of this process could be opened; 0 if the last one was."""
        since = PlanKeepingConnection._unreachable_since
        return 0.0 if since is None else monotonic() - since

    def is_alive(self) -> bool:
        """Tell whether the server process of this idle connection exists.

        A server that ends closes its connections, so that the socket can be read. That costs a system call. The answer
        costs a round trip only if something has arrived, or after a long time.
        """
        now = monotonic()
        was_idle_long, self._used_at = now - self._used_at > IDLE_S, now
        limit_s = self._answer_timeout_s
        try:
            if was_idle_long or _is_readable(self.pgconn.socket):
                self._answer_timeout_s = GRACE_S
                self.execute(b"")
                # One that came back without autocommit would have begun a transaction here.
                self.rollback()
        except psycopg.Error:
            return False
        finally:
            self._answer_timeout_s = limit_s
        return True

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


def _is_readable(descriptor: int) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))


@cache
def connection_class(statement_timeout_s: float) -> type[PlanKeepingConnection]:
    """Return a class whose connections limit each statement to this many seconds."""
    return type("LimitedConnection", (PlanKeepingConnection,), {"statement_timeout_s": statement_timeout_s})
