"""Newest events of a watched job, stored once for all of its viewers. No I/O."""

from __future__ import annotations

from bisect import bisect_right

from jobs.events.encoding import EventBlock
from jobs.streaming.batch import Batch

MAX_BYTES = 512 * 1024


class Window:
    """Consecutive batches up to the last known number, bounded in bytes and shared by all viewers.

    A viewer only has a position and never delays the others. A slow viewer whose position has left the window reads
    from PostgreSQL until it is back inside.

    Args:
        max_bytes: of event text; the oldest batches are dropped first, and the newest one always stays.
    """

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._batches: list[Batch] = []
        self._starts: list[int] = []
        self._sizes: list[int] = []
        self._bytes = 0
        self.last_seq = 0

    @property
    def bytes(self) -> int:
        return self._bytes

    def add(self, lines: EventBlock) -> bool:
        """Add a batch. After a gap the window starts with this batch, and viewers before it must read the rest.

        Returns:
            True when the batch has new events.
        """
        if lines.last_seq <= self.last_seq:
            return False
        if lines.first_seq > self.last_seq + 1:
            self._clear()
        fresh = lines.after(self.last_seq) if lines.first_seq <= self.last_seq else lines
        self._batches.append(Batch(fresh))
        self._starts.append(fresh.first_seq)
        self._sizes.append(sum(map(len, fresh.lines)))
        self._bytes += self._sizes[-1]
        self.last_seq = fresh.last_seq
        self._shrink()
        return True

    def advance(self, last_seq: int) -> bool:
        """Record that events up to a number exist without having them; return whether that is new."""
        if last_seq <= self.last_seq:
            return False
        self._clear()
        self.last_seq = last_seq
        return True

    def after(self, seq: int) -> Batch | None:
        """Return events after number ``seq``; None when there are none or the window starts later."""
        if not self._batches or seq >= self.last_seq or seq + 1 < self._starts[0]:
            return None
        return self._batches[bisect_right(self._starts, seq + 1) - 1].after(seq)

    def _clear(self) -> None:
        self._batches, self._starts, self._sizes, self._bytes = [], [], [], 0

    def _shrink(self) -> None:
        surplus = 0
        while self._bytes > self._max_bytes and surplus < len(self._sizes) - 1:
            self._bytes -= self._sizes[surplus]
            surplus += 1
        if surplus:
            del self._batches[:surplus], self._starts[:surplus], self._sizes[:surplus]
