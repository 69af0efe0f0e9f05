"""Errors that mean that PostgreSQL or Redis is away or accepts no changes, and not that a statement is wrong."""

from __future__ import annotations

from typing import Final

import django.db
import kombu.exceptions
import psycopg
import redis

# The statement itself exceeds a limit of PostgreSQL, so that a retry fails, too.
_PERMANENT: Final = (psycopg.errors.ProgramLimitExceeded,)
_UNAVAILABLE: Final = (
    django.db.OperationalError,
    django.db.InterfaceError,
    psycopg.OperationalError,
    psycopg.InterfaceError,
    kombu.exceptions.OperationalError,
    redis.RedisError,
)


def is_outage(error: BaseException | None) -> bool:
    """Tell whether an error is one of a database or broker that is away, overloaded, full or read-only."""
    # Django's errors have psycopg's as their cause.
    cause = error.__cause__ if isinstance(error, django.db.Error) and error.__cause__ else error
    if isinstance(cause, psycopg.errors.ReadOnlySqlTransaction):
        return True
    return isinstance(error, _UNAVAILABLE) and not isinstance(cause, _PERMANENT)
