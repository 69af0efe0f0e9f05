"""Turns: on one storage one container is made at a time, whichever process makes it.

Proxmox hands out numbers without reserving them, and locks a template while it is cloned, so two at once get in each
other's way. The turn is an advisory lock of the database, which ends with its process.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Final
from zlib import crc32

from django.db import Error, connection

from shards.providers.errors import ProviderBusy

Turn = Callable[[str, float], AbstractContextManager[None]]

# The first key of the locks ("pvet" in ASCII); the second stands for the storage.
_LOCK: Final = 0x70766574
_LOOK_S: Final = 0.5


@contextmanager
def database_turn(storage: str, timeout_s: float) -> Iterator[None]:
    """Hold the turn of this storage; ``ProviderBusy`` when it does not come within ``timeout_s``."""
    key = crc32(storage.encode()) - 2**31
    end = time.monotonic() + timeout_s
    while not _ask("SELECT pg_try_advisory_lock(%s, %s)", key):
        if time.monotonic() >= end:
            raise ProviderBusy(f"Other containers are being made on {storage}; this one's turn did not come in time.")
        time.sleep(_LOOK_S)
    try:
        yield
    finally:
        _end(key)


def _end(key: int) -> None:
    try:
        _ask("SELECT pg_advisory_unlock(%s, %s)", key)
    except Error:
        # What was made meanwhile is worth more than the database's complaint; the lock ends with the connection.
        connection.close()


def _ask(query: str, key: int) -> bool:
    with connection.cursor() as cursor:
        cursor.execute(query, [_LOCK, key])
        row = cursor.fetchone()
    return bool(row and row[0])
