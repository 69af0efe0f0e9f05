"""Comparison of passwords in a few threads of its own.

A comparison takes up to a second of one processor. Without a bound, parallel logins would occupy all processors, and
with them the threads that renew leases of shards.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Final, NamedTuple

from django.contrib.auth.hashers import make_password, verify_password
from django.db import connection

THREADS: Final = 2
_pool: Final = ThreadPoolExecutor(THREADS, thread_name_prefix="password-hash")


class PasswordCheck(NamedTuple):
    """Result of a comparison.

    Attributes:
        new_hash: the password under the current settings; empty if the stored hash is up to date.
    """

    is_correct: bool
    new_hash: str = ""


def check_password(password: str, stored: str | None) -> PasswordCheck:
    """Compare a password in one of the threads, and wait without a database connection.

    Args:
        stored: hash of the account's password; None for an unknown account, which takes as long.
    """
    release_connection()
    return _pool.submit(_check, password, stored).result()


def release_connection() -> None:
    """Return the thread's database connection to the pool; the next query takes one again."""
    # Inside a transaction the caller needs it.
    if not connection.in_atomic_block:
        connection.close()


def _check(password: str, stored: str | None) -> PasswordCheck:
    if stored is None:
        make_password(password)
        return PasswordCheck(False)
    is_correct, is_outdated = verify_password(password, stored)
    return PasswordCheck(is_correct, make_password(password) if is_correct and is_outdated else "")
