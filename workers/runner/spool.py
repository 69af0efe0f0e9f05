"""Events that wait to be posted: the next ones in memory, the others on disk, all of them up to a bound."""

from __future__ import annotations

import json
import logging
import tempfile
from collections import deque
from pathlib import Path
from typing import IO

from myctobot.contract.jobs import MAX_BATCH_BYTES, MAX_BATCH_EVENTS, Event

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
        # What the disk had no room for, behind all that is on it.
        self._last: deque[tuple[Event, int]] = deque()
        self._near_bytes = self._far_bytes = self._last_bytes = self._far_events = 0
        self._file: IO[bytes] | None = None
        self._read_at = 0

    def __len__(self) -> int:
        return len(self._near) + self._far_events + len(self._last)

    @property
    def bytes(self) -> int:
        """Bytes of all events."""
        return self._near_bytes + self._far_bytes + self._last_bytes

    @property
    def is_full(self) -> bool:
        """Whether nothing more should be added: there is too much already, or no disk for it."""
        return bool(self._last) or self.bytes > self._most_bytes

    def append(self, event: Event, size: int) -> None:
        """Add an event of about so many bytes."""
        # It must overtake none that came before.
        has_room = not self._near or self._near_bytes + size <= self._memory_bytes
        if has_room and not self._far_events and not self._last:
            self._keep(event, size)
        elif self._last or not self._write(event, size):
            self._last.append((event, size))
            self._last_bytes += size

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
            log.warning("events cannot wait on disk: %s", error.strerror)
            return False
        self._far_events += 1
        self._far_bytes += size
        return True

    def _refill(self) -> None:
        """Read what follows once memory has room for it."""
        while not self._near or self._near_bytes < self._memory_bytes:
            if self._far_events:
                self._read_one()
            elif self._last:
                event, size = self._last.popleft()
                self._last_bytes -= size
                self._keep(event, size)
            else:
                return

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
