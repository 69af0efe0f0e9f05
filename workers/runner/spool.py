"""Bounded queue of the events that wait to be posted: the next ones in memory, the others on disk."""

from __future__ import annotations

import json
import logging
import tempfile
from collections import deque
from pathlib import Path
from typing import IO

from myctobot.contract.jobs import Event
from myctobot.contract.limits import MAX_BATCH_BYTES, MAX_BATCH_EVENTS

log = logging.getLogger("runner")

# One batch that is being posted, and the next one.
_MEMORY_BYTES = 2 * MAX_BATCH_BYTES
# Enough for the 40 s until a silent control plane freezes the agent, and for one that is slow for long.
MAX_BYTES = 64 * 1024 * 1024


class Spool:
    """First-in, first-out queue; its file has no name, so nothing outlives the process.

    Args:
        folder: directory of the file, on the shard's own disk; the file is created when it is needed.
        memory_bytes: bytes that are kept in memory.
        max_bytes: bytes after which the spool is full; the last event may exceed it.
    """

    def __init__(self, folder: Path, memory_bytes: int = _MEMORY_BYTES, max_bytes: int = MAX_BYTES) -> None:
        self._folder, self._memory_bytes, self._max_bytes = folder, memory_bytes, max_bytes
        self._in_memory: deque[tuple[Event, int]] = deque()
        # Events for which the disk had no space. They come after those on disk.
        self._overflow: deque[tuple[Event, int]] = deque()
        self._memory_used = self._disk_bytes = self._overflow_bytes = self._disk_events = 0
        self._file: IO[bytes] | None = None
        self._read_at = 0

    def __len__(self) -> int:
        return len(self._in_memory) + self._disk_events + len(self._overflow)

    @property
    def bytes(self) -> int:
        """Bytes of all events."""
        return self._memory_used + self._disk_bytes + self._overflow_bytes

    @property
    def is_full(self) -> bool:
        """Tell whether no event should be added, because there are too many or the disk is full."""
        return bool(self._overflow) or self.bytes > self._max_bytes

    def append(self, event: Event, size: int) -> None:
        """Add an event of about ``size`` bytes."""
        # An event must not overtake earlier ones, so memory is only used when nothing waits behind it.
        has_room = not self._in_memory or self._memory_used + size <= self._memory_bytes
        if has_room and not self._disk_events and not self._overflow:
            self._append_to_memory(event, size)
        elif self._overflow or not self._append_to_disk(event, size):
            self._overflow.append((event, size))
            self._overflow_bytes += size

    def batch(self) -> list[Event]:
        """Return the next events that fit into one batch; they stay until ``drop``."""
        self._refill()
        found: list[Event] = []
        size = 0
        for event, bytes_ in self._in_memory:
            if found and (size + bytes_ > MAX_BATCH_BYTES or len(found) == MAX_BATCH_EVENTS):
                break
            found.append(event)
            size += bytes_
        return found

    def drop(self, count: int) -> None:
        """Remove the first ``count`` events."""
        for _ in range(count):
            _, size = self._in_memory.popleft()
            self._memory_used -= size
        self._refill()

    def close(self) -> None:
        """Close the file; the waiting events are lost."""
        if self._file is not None:
            self._file.close()

    def _append_to_memory(self, event: Event, size: int) -> None:
        self._in_memory.append((event, size))
        self._memory_used += size

    def _append_to_disk(self, event: Event, size: int) -> bool:
        """Append an event to the file; return False when there is no space."""
        line = json.dumps([size, event], separators=(",", ":")).encode() + b"\n"
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115  # as long as the spool
            end = self._file.seek(0, 2)
            try:
                self._file.write(line)
                self._file.flush()
            except OSError:
                # Remove an incomplete line, because the next one is appended to it.
                self._file.truncate(end)
                raise
        except OSError as error:
            log.warning("events cannot be written to disk: %s", error.strerror)
            return False
        self._disk_events += 1
        self._disk_bytes += size
        return True

    def _refill(self) -> None:
        """Move the next events into memory while it has space."""
        while not self._in_memory or self._memory_used < self._memory_bytes:
            if self._disk_events:
                self._read_from_disk()
            elif self._overflow:
                event, size = self._overflow.popleft()
                self._overflow_bytes -= size
                self._append_to_memory(event, size)
            else:
                return

    def _read_from_disk(self) -> None:
        file = self._file
        assert file is not None  # noqa: S101  # there are events in it
        file.seek(self._read_at)
        line = file.readline()
        self._read_at += len(line)
        size, event = json.loads(line)
        self._append_to_memory(event, size)
        self._disk_events -= 1
        self._disk_bytes -= size
        if not self._disk_events:
            file.truncate(0)
            self._read_at = 0
