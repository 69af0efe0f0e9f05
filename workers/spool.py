"""Events that wait to be posted: the next ones in memory, the others on disk, all of them up to a bound."""

from __future__ import annotations

import json
import logging
import tempfile
from collections import deque
from pathlib import Path
from typing import IO

from jobs.contract import MAX_BATCH_BYTES, MAX_BATCH_EVENTS, Event

log = logging.getLogger("runner")

# Two batches: one that is under way, and the next.
_MEMORY_BYTES = 2 * MAX_BATCH_BYTES
# Half a minute of the most that an agent says, until it is frozen; and room for a control plane that is slow for long.
MOST_BYTES = 64 * 1024 * 1024


class Spool:
    """First in, first out. Nothing of it outlives the process: its file has no name.

    Args:
        folder: where the file is made when it is needed, on the shard's own disk.
        memory_bytes: how much of it is kept in memory.
        most_bytes: how much there may be before it is full; one event may stand over it.
    """

    def __init__(self, folder: Path, memory_bytes: int = _MEMORY_BYTES, most_bytes: int = MOST_BYTES) -> None:
        self._folder, self._memory_bytes, self._most_bytes = folder, memory_bytes, most_bytes
        self._near: deque[tuple[Event, int]] = deque()
        self._near_bytes = self._far_bytes = self._far_events = 0
        self._file: IO[bytes] | None = None
        self._read_at = 0
        self._has_disk = True

    def __len__(self) -> int:
        return len(self._near) + self._far_events

    @property
    def bytes(self) -> int:
        """Bytes of all events."""
        return self._near_bytes + self._far_bytes

    @property
    def is_full(self) -> bool:
        """Whether nothing more should be added: there is too much already, or no disk for it."""
        room = self._most_bytes if self._has_disk else self._memory_bytes
        return self.bytes > room

    def append(self, event: Event, size: int) -> None:
        """Add an event of about so many bytes."""
        # What is on disk came before it.
        if not self._far_events and (not self._near or self._near_bytes + size <= self._memory_bytes):
            self._keep(event, size)
        elif not self._write(event, size):
            # With the disk full, memory takes it, and is full then; but it must not overtake what is on disk.
            self._recall()
            self._keep(event, size)

    def batch(self) -> list[Event]:
        """The next events, as many as go in one batch; they stay until they are dropped."""
        self._refill()
        found: list[Event] = []
        size = 0
        for event, bytes_ in self._near:
            if found and (size + bytes_ > MAX_BATCH_BYTES or len(found) == MAX_BATCH_EVENTS):
                break
            found.append(event)
            size += bytes_
        return found

    def drop(self, count: int) -> None:
        """Forget the first so many."""
        for _ in range(count):
            _, size = self._near.popleft()
            self._near_bytes -= size
        self._refill()

    def close(self) -> None:
        """Give the file back; what waits is gone."""
        if self._file is not None:
            self._file.close()

    def _keep(self, event: Event, size: int) -> None:
        self._near.append((event, size))
        self._near_bytes += size

    def _write(self, event: Event, size: int) -> bool:
        """Put an event behind all others on disk; False when there is no room."""
        line = json.dumps([size, event], separators=(",", ":")).encode() + b"\n"
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115  # as long as the spool
            end = self._file.seek(0, 2)
            try:
                self._file.write(line)
                self._file.flush()
            except OSError:
                # Half a line must not stay before the next one.
                self._file.truncate(end)
                raise
        except OSError as error:
            if self._has_disk:
                log.warning("events wait in memory alone: %s", error.strerror)
            self._has_disk = False
            return False
        self._has_disk = True
        self._far_events += 1
        self._far_bytes += size
        return True

    def _refill(self) -> None:
        """Read what follows once memory has room for it."""
        while self._far_events and (not self._near or self._near_bytes < self._memory_bytes):
            self._read_one()

    def _recall(self) -> None:
        """Read everything back."""
        while self._far_events:
            self._read_one()

    def _read_one(self) -> None:
        file = self._file
        assert file is not None  # noqa: S101  # there are events in it
        file.seek(self._read_at)
        line = file.readline()
        self._read_at += len(line)
        size, event = json.loads(line)
        self._keep(event, size)
        self._far_events -= 1
        self._far_bytes -= size
        if not self._far_events:
            file.truncate(0)
            self._read_at = 0
