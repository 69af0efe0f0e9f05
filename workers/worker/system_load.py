"""Load of this shard: of its container where that has limits, else of the machine.

Inside a container the usual figures are those of the whole host, which a shard should not report. Control groups count
the container alone: see Documentation/admin-guide/cgroup-v1/{memory,cpuacct}.rst and cgroup-v2.rst of the kernel's
source.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

import psutil

ROOT: Final = Path("/sys/fs/cgroup")
MB: Final = 2**20


def memory_total_mb(root: Path = ROOT) -> int:
    """Return the memory that this shard may use in MB: the container's limit, or the machine's memory."""
    return _limit_mb(root) or int(psutil.virtual_memory().total // MB)


def memory_used_mb(root: Path = ROOT) -> int:
    """Return the used memory in MB, without the file cache that the kernel can free."""
    if _limit_mb(root) is None:
        return int(psutil.virtual_memory().used // MB)
    for usage, stat, name in (
        (root / "memory.current", root / "memory.stat", "inactive_file"),
        (root / "memory/memory.usage_in_bytes", root / "memory/memory.stat", "total_inactive_file"),
    ):
        used = _read_int(usage)
        if used is not None:
            return max(0, used - _read_field(stat, name)) // MB
    return int(psutil.virtual_memory().used // MB)


class ProcessorLoad:
    """Processor use of a shard since the last call.

    Args:
        root: directory of the control groups.
    """

    def __init__(self, root: Path = ROOT) -> None:
        self._root = root
        self._at, self._used = time.monotonic(), self._used_s()
        psutil.cpu_percent()

    def percent(self) -> float:
        """Return the use in percent of the allowed processors; the first call counts from the creation."""
        processors = self._quota()
        used = self._used_s()
        if processors is None or used is None or self._used is None:
            return float(psutil.cpu_percent())
        now = time.monotonic()
        passed, spent = now - self._at, used - self._used
        self._at, self._used = now, used
        return round(max(0.0, 100 * spent / (passed * processors)), 1) if passed > 0 else 0.0

    def _quota(self) -> float | None:
        """Return the number of processors that the shard may use, or None without a limit."""
        text = _read_text(self._root / "cpu.max").split()
        if len(text) == 2 and text[0].isdigit():
            return int(text[0]) / int(text[1])
        quota, period = _read_int(self._root / "cpu/cpu.cfs_quota_us"), _read_int(self._root / "cpu/cpu.cfs_period_us")
        return quota / period if quota and quota > 0 and period else None

    def _used_s(self) -> float | None:
        nanoseconds = _read_int(self._root / "cpuacct/cpuacct.usage")
        if nanoseconds is not None:
            return nanoseconds / 1e9
        return _read_field(self._root / "cpu.stat", "usage_usec") / 1e6 if (self._root / "cpu.stat").exists() else None


def _limit_mb(root: Path) -> int | None:
    for path in (root / "memory.max", root / "memory/memory.limit_in_bytes"):
        limit = _read_int(path)
        if limit is not None and limit < psutil.virtual_memory().total:
            return limit // MB
    return None


def _read_text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _read_int(path: Path) -> int | None:
    text = _read_text(path)
    return int(text) if text.lstrip("-").isdigit() else None


def _read_field(path: Path, name: str) -> int:
    """Return the value of a line ``name value`` in a file, or 0."""
    for line in _read_text(path).splitlines():
        found, _, value = line.partition(" ")
        if found == name and value.isdigit():
            return int(value)
    return 0
