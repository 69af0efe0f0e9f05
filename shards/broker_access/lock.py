"""Lock that keeps the database and the broker's users consistent."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from django.db import connection, transaction

# An arbitrary number that no other advisory lock uses.
_LOCK: Final = 7_310_552


@contextmanager
def one_at_a_time() -> Iterator[None]:
    """Run a transaction that holds the lock; other callers wait for its end."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
        yield
