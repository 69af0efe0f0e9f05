"""``/healthz``: the answer to the question whether a process and its database work.

A check has a thread and a connection of its own, so it waits for no other request and for no pool. All requests within
a second share it.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, Final, NamedTuple

import psycopg
import structlog
from asgiref.typing import ASGIReceiveCallable, ASGISendCallable
from django.db import connection

from myctobot.errors import RETRY_AFTER_S
from myctobot.lib.failing_parts import failing_parts
from myctobot.lib.postgres.connection import connection_class
from myctobot.web.network_guard import App
from myctobot.web.response import RawResponse, read_body
from myctobot.web.security_headers import PLAIN_POLICY

PATH: Final = "/healthz"
# A result is used again for this time.
KEPT_S: Final = 1.0
# A request gets an answer after this time at the latest.
ANSWER_S: Final = 3.0
_STATEMENT_TIMEOUT_S: Final = 2.0
# This needs a table, because a server may answer while its tables are locked. All programs may read this one.
_QUESTION: Final = b"SELECT current_setting('transaction_read_only') = 'on', EXISTS (SELECT FROM tenants_tenant)"
# The server keeps this result in a temporary file. That needs no right, and fails if the disk of the tables is full.
_LITTLE_MEMORY: Final = b"SET LOCAL work_mem = '64kB'"
_TEMPORARY_FILE: Final = b"SELECT count(*) FROM generate_series(1, 20000)"
_NO_ANSWER: Final = "PostgreSQL does not answer."
_FULL: Final = "PostgreSQL's disk is full."
_READ_ONLY: Final = "PostgreSQL is read-only."
log = structlog.get_logger(__name__)


def ask_database() -> str | None:
    """Return what is wrong with the database, or None."""
    parameters: dict[str, Any] = connection.get_connection_params()
    parameters |= {"autocommit": True, "connect_timeout": round(_STATEMENT_TIMEOUT_S)}
    try:
        with connection_class(_STATEMENT_TIMEOUT_S).connect(**parameters) as own:
            row = own.execute(_QUESTION).fetchone()
            # A pooler in front may give the connection to others, so the setting ends with the transaction.
            with suppress(psycopg.errors.ConfigurationLimitExceeded), own.transaction():
                own.execute(_LITTLE_MEMORY)
                own.execute(_TEMPORARY_FILE)
    except psycopg.errors.DiskFull as error:
        log.warning("health.database_failed", error=str(error))
        return _FULL
    except psycopg.Error as error:
        log.warning("health.database_failed", error=str(error))
        return _NO_ANSWER
    return _READ_ONLY if row and row[0] else None


class HealthReport(NamedTuple):
    """Result of a check.

    Attributes:
        problem: what is wrong with the database; None if nothing is.
        failing_parts: names of the other processes that the supervisor cannot start.
    """

    problem: str | None = None
    failing_parts: tuple[str, ...] = ()


_UNKNOWN: Final = HealthReport(_NO_ANSWER)


def check_health() -> HealthReport:
    """Ask the database, and read the report of the supervisor."""
    parts = tuple(part.name for part in failing_parts() if part.until is None)
    return HealthReport(ask_database(), parts)


class LatestHealth:
    """Latest result of a check, for any number of requests.

    Args:
        ask: runs a check; called in a thread.
        clock: returns monotonic seconds.
    """

    def __init__(
        self, ask: Callable[[], HealthReport] = check_health, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._ask, self._clock = ask, clock
        self._lock = threading.Lock()
        self._check: Future[HealthReport] | None = None
        self._result, self._expires_at = _UNKNOWN, -1.0

    async def report(self) -> HealthReport:
        """Return the result of a check that ended within the last second, or that runs now."""
        check = self._current_check()
        if isinstance(check, HealthReport):
            return check
        try:
            async with asyncio.timeout(ANSWER_S):
                return await asyncio.shield(asyncio.wrap_future(check))
        except TimeoutError:
            # The check goes on. Until it ends, no other one starts.
            return self._keep(_UNKNOWN)

    def _current_check(self) -> HealthReport | Future[HealthReport]:
        with self._lock:
            if self._clock() < self._expires_at:
                return self._result
            if self._check is None or self._check.done():
                self._check = Future()
                threading.Thread(target=self._settle, args=[self._check], name="health", daemon=True).start()
            return self._check

    def _settle(self, check: Future[HealthReport]) -> None:
        try:
            found = self._ask()
        except Exception:  # an error of ours is an answer, too, and must not leave the check open
            log.exception("health.check_failed")
            found = _UNKNOWN
        check.set_result(self._keep(found))

    def _keep(self, found: HealthReport) -> HealthReport:
        with self._lock:
            self._result, self._expires_at = found, self._clock() + KEPT_S
        return found


def with_health_check(app: App, health: LatestHealth) -> App:
    """Return an application that answers health checks itself: they need no turn, because others may have all turns."""

    async def answered(scope: Any, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        if scope["type"] != "http" or scope["path"] != PATH:
            await app(scope, receive, send)
        elif await read_body(receive) is not None:
            await (await health_response(health)).send(send)

    return answered


async def health_response(health: LatestHealth) -> RawResponse:
    """Return the response to a health check: 200, or 503 with the reason."""
    problem, parts = await health.report()
    # Parts that do not start are no reason to send calls elsewhere: this process works.
    body: dict[str, Any] = {"status": "failed", "problem": problem} if problem else {"status": "ok"}
    if parts:
        body["failing_parts"] = parts
    headers = [
        (b"content-type", b"application/json"),
        (b"cache-control", b"no-store"),
        (b"x-content-type-options", b"nosniff"),
        (b"content-security-policy", PLAIN_POLICY.encode()),
    ]
    if problem is None:
        return RawResponse(200, headers, json.dumps(body).encode())
    return RawResponse(503, [*headers, (b"retry-after", str(RETRY_AFTER_S).encode())], json.dumps(body).encode())
