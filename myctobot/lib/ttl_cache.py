"""Bounded caches whose entries expire."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable
from typing import Generic, NamedTuple, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class _Entry(NamedTuple, Generic[V]):
    value: V
    expires_at: float
    owner: Hashable


class TtlCache(Generic[K, V]):
    """Keep values by key for a limited time, for all threads of a process.

    A full cache drops its oldest entry. An owner, such as a tenant, that has its own maximum drops its own oldest
    entry, so that one owner cannot displace the entries of the others.

    Args:
        max_entries: number of entries that are kept.
        ttl_s: seconds until an entry expires.
        clock: returns monotonic seconds.
        max_per_owner: number of entries that one owner has; None for no bound except ``max_entries``.

    Raises:
        ValueError: a bound is smaller than one.
    """

    def __init__(
        self,
        max_entries: int,
        ttl_s: float,
        clock: Callable[[], float] = time.monotonic,
        *,
        max_per_owner: int | None = None,
    ) -> None:
        if max_entries < 1 or (max_per_owner is not None and max_per_owner < 1):
            raise ValueError("a cache must keep at least one entry")
        self._max_entries, self._ttl_s, self._clock = max_entries, ttl_s, clock
        self._max_per_owner = max_per_owner
        self._lock = threading.Lock()
        # A dict keeps the order of insertion, so its first key is the oldest one.
        self._entries: dict[K, _Entry[V]] = {}
        self._keys_by_owner: dict[Hashable, dict[K, None]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: K) -> V | None:
        """Return the value of a key, or None if it is unknown or expired."""
        entry = self._entries.get(key)
        return None if entry is None or self._clock() >= entry.expires_at else entry.value

    def put(self, key: K, value: V, owner: Hashable = None) -> None:
        """Store a value for ``ttl_s`` seconds from now, and replace the value that the key had."""
        with self._lock:
            self._remove(key)
            if self._max_per_owner is not None and owner is not None:
                keys = self._keys_by_owner.setdefault(owner, {})
                if len(keys) >= self._max_per_owner:
                    self._remove(next(iter(keys)))
                # Removal of the owner's last key drops its dictionary.
                self._keys_by_owner.setdefault(owner, {})[key] = None
            if len(self._entries) >= self._max_entries:
                self._remove(next(iter(self._entries)))
            self._entries[key] = _Entry(value, self._clock() + self._ttl_s, owner)

    def get_or_load(self, key: K, load: Callable[[], V], owner: Hashable = None) -> V:
        """Return the value of a key; load and store it if it is unknown or expired.

        The cache is not locked during ``load``, so two threads that miss at once both load. An error of ``load``
        passes through, and nothing is stored.
        """
        entry = self._entries.get(key)
        if entry is not None and self._clock() < entry.expires_at:
            return entry.value
        value = load()
        self.put(key, value, owner)
        return value

    def discard(self, key: K) -> None:
        """Drop the entry of a key, if there is one."""
        with self._lock:
            self._remove(key)

    def clear(self) -> None:
        """Drop all entries."""
        with self._lock:
            self._entries.clear()
            self._keys_by_owner.clear()

    def _remove(self, key: K) -> None:
        entry = self._entries.pop(key, None)
        if entry is None or (keys := self._keys_by_owner.get(entry.owner)) is None:
            return
        keys.pop(key, None)
        if not keys:
            del self._keys_by_owner[entry.owner]


class CachedValue(Generic[V]):
    """Keep one value for a limited time, for all threads of a process.

    A call during a load waits for its result, so that many callers cause one load.

    Args:
        load: returns a fresh value.
        ttl_s: seconds until the value expires.
        clock: returns monotonic seconds.
    """

    def __init__(self, load: Callable[[], V], ttl_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._load, self._ttl_s, self._clock = load, ttl_s, clock
        self._lock = threading.Lock()
        self._entry: tuple[V, float] | None = None

    def __call__(self) -> V:
        """Return the value, which is at most ``ttl_s`` seconds old; an error of ``load`` is not kept."""
        with self._lock:
            if self._entry is None or self._clock() >= self._entry[1]:
                value = self._load()
                self._entry = (value, self._clock() + self._ttl_s)
            return self._entry[0]

    def clear(self) -> None:
        """Drop the value."""
        with self._lock:
            self._entry = None
