"""Errors that are outages, and errors that are mistakes."""

from __future__ import annotations

from collections.abc import Iterator

import django.db
import kombu.exceptions
import psycopg
import pytest
import redis
from psycopg_pool import PoolTimeout

from myctobot.errors import MyctobotError
from myctobot.lib.postgres.outage import is_outage


def from_django(kind: type[django.db.Error], cause: psycopg.Error | None) -> django.db.Error:
    error = kind("text")
    error.__cause__ = cause
    return error


ERRORS = psycopg.errors
OUTAGES = [
    from_django(django.db.OperationalError, ERRORS.AdminShutdown()),
    from_django(django.db.OperationalError, ERRORS.CannotConnectNow()),
    from_django(django.db.OperationalError, ERRORS.QueryCanceled()),
    from_django(django.db.OperationalError, ERRORS.DiskFull()),
    from_django(django.db.OperationalError, PoolTimeout()),
    from_django(django.db.InterfaceError, psycopg.InterfaceError("the connection is closed")),
    from_django(django.db.InternalError, ERRORS.ReadOnlySqlTransaction()),
    from_django(django.db.OperationalError, None),
    psycopg.OperationalError(),
    redis.ConnectionError(),
    redis.ReadOnlyError(),
    kombu.exceptions.OperationalError(),
]
MISTAKES = [
    from_django(django.db.OperationalError, ERRORS.ProgramLimitExceeded()),
    from_django(django.db.ProgrammingError, ERRORS.UndefinedTable()),
    from_django(django.db.IntegrityError, ERRORS.UniqueViolation()),
    from_django(django.db.InternalError, ERRORS.InFailedSqlTransaction()),
    from_django(django.db.DataError, ERRORS.DivisionByZero()),
    ValueError(),
    OSError(),
    None,
]


@pytest.mark.parametrize("error", OUTAGES, ids=lambda error: repr(error.__cause__ or error))
def test_an_outage(error: Exception) -> None:
    assert is_outage(error)


@pytest.mark.parametrize("error", MISTAKES, ids=lambda error: repr((error and error.__cause__) or error))
def test_a_mistake(error: Exception | None) -> None:
    assert not is_outage(error)


def descendants(kind: type[MyctobotError]) -> Iterator[type[MyctobotError]]:
    for one in kind.__subclasses__():
        yield one
        yield from descendants(one)


def test_each_503_says_when_to_try_again() -> None:
    import myctobot.gateway.errors  # defines further errors
    import shards.errors

    assert {myctobot.gateway.errors.GrantsUnavailable, shards.errors.BrokerRefused} <= set(descendants(MyctobotError))
    silent = [one for one in descendants(MyctobotError) if one.http_status == 503 and one.retry_after_s is None]
    assert not silent, f"{silent}: set retry_after_s, because clients must know when to try again"
    assert MyctobotError().retry_after_s is None
