"""Memory of a process as the kernel counts it; see proc(5). An MB is 2**20 bytes here."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Memory:
    """Memory of a process, in MB.

    Attributes:
        rss: resident memory, with shared pages counted in full.
        peak: the highest value of ``rss`` so far.
        pss: resident memory, with shared pages divided among the processes that share them. None when the kernel
            refuses it, because only root may read it for a runner at work.
    """

    rss: float
    peak: float
    pss: float | None = None

    def as_dict(self) -> dict[str, float | None]:
        return {"rss": self.rss, "peak": self.peak, "pss": self.pss}


def field_mb(text: str, name: str) -> float:
    """Return one figure of ``/proc/<pid>/status`` or ``smaps_rollup``, in MB.

    Raises:
        ValueError: the figure is missing, as for a process that has ended.
    """
    match = re.search(rf"^{name}:\s+(\d+) kB$", text, re.MULTILINE)
    if match is None:
        raise ValueError(f"the kernel reports no {name} for the process")
    return round(int(match.group(1)) / 1024, 1)


def memory_of(pid: int) -> Memory:
    """Return the memory of a process.

    Raises:
        FileNotFoundError, ProcessLookupError, ValueError: the process has ended.
    """
    process = Path("/proc", str(pid))
    status = (process / "status").read_text()
    try:
        pss = field_mb((process / "smaps_rollup").read_text(), "Pss")
    except PermissionError:
        pss = None
    return Memory(field_mb(status, "VmRSS"), field_mb(status, "VmHWM"), pss)


def total(memories: Iterable[Memory]) -> Memory:
    """Return the sum of several processes; only ``pss`` counts shared pages once."""
    all_ = list(memories)
    shares = [memory.pss for memory in all_ if memory.pss is not None]
    pss = round(sum(shares), 1) if len(shares) == len(all_) else None
    return Memory(round(sum(m.rss for m in all_), 1), round(sum(m.peak for m in all_), 1), pss)
