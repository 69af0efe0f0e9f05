"""The memory of a process, as the kernel counts it; see proc(5). An MB is 2**20 bytes here."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Memory:
    """A process's memory, MB.

    Attributes:
        rss: resident, pages shared with others counted in full.
        peak: the most that ``rss`` has ever been.
        pss: resident, shared pages divided among those that share them. None where the kernel does not
            say: a runner at work keeps it from everybody but root.
    """

    rss: float
    peak: float
    pss: float | None = None

    def shown(self) -> dict[str, float | None]:
        return {"rss": self.rss, "peak": self.peak, "pss": self.pss}


def field_mb(text: str, name: str) -> float:
    """Read one figure of ``/proc/<pid>/status`` or ``smaps_rollup``, MB.

    Raises:
        ValueError: it is not there, as for a process that has ended.
    """
    match = re.search(rf"^{name}:\s+(\d+) kB$", text, re.MULTILINE)
    if match is None:
        raise ValueError(f"no {name} in what the kernel says of the process")
    return round(int(match.group(1)) / 1024, 1)


def memory_of(pid: int) -> Memory:
    """Measure a process.

    Raises:
        FileNotFoundError, ProcessLookupError, ValueError: it has ended.
    """
    process = Path("/proc", str(pid))
    status = (process / "status").read_text()
    try:
        pss = field_mb((process / "smaps_rollup").read_text(), "Pss")
    except PermissionError:
        pss = None
    return Memory(field_mb(status, "VmRSS"), field_mb(status, "VmHWM"), pss)


def total(memories: Iterable[Memory]) -> Memory:
    """Add several processes up; pages that they share count once in ``pss`` alone."""
    all_ = list(memories)
    shares = [memory.pss for memory in all_ if memory.pss is not None]
    pss = round(sum(shares), 1) if len(shares) == len(all_) else None
    return Memory(round(sum(m.rss for m in all_), 1), round(sum(m.peak for m in all_), 1), pss)
