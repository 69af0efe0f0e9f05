"""One at a time for the shards' users at the broker: what is on record and what the broker has change together."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from django.db import connection, transaction

# Any number that nothing else here locks by.
_LOCK: Final = 7_310_552


@contextmanager
def one_at_a_time() -> Iterator[None]:
    """A transaction in which nobody else changes the users; whoever wants to waits for its end."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
        yield
