"""Lock that lets only one process create a container on a storage at a time.

Proxmox does not reserve the numbers that it proposes, and locks a template during a clone, so that concurrent creations
would fail. The lock is an advisory lock of the database, which ends with its process.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Final
from zlib import crc32

from django.db import Error, connection

from shards.providers.errors import ProviderBusy

StorageLock = Callable[[str, float], AbstractContextManager[None]]

# First key of the locks ("pvet" in ASCII); the second key is a hash of the storage.
_LOCK: Final = 0x70766574
_POLL_S: Final = 0.5


@contextmanager
def database_lock(storage: str, timeout_s: float) -> Iterator[None]:
    """Hold the lock of a storage; raise ``ProviderBusy`` if it is not free within ``timeout_s``."""
    key = crc32(storage.encode()) - 2**31
    end = time.monotonic() + timeout_s
    while not _select("SELECT pg_try_advisory_lock(%s, %s)", key):
        if time.monotonic() >= end:
            raise ProviderBusy(f"Other containers are being created on {storage}; try again later.")
        time.sleep(_POLL_S)
    try:
        yield
    finally:
        _unlock(key)


def _unlock(key: int) -> None:
    try:
        _select("SELECT pg_advisory_unlock(%s, %s)", key)
    except Error:
        # Keep the created container and ignore the error: closing the connection releases the lock.
        connection.close()


def _select(query: str, key: int) -> bool:
    with connection.cursor() as cursor:
        cursor.execute(query, [_LOCK, key])
        row = cursor.fetchone()
    return bool(row and row[0])
