"""Description of the machine that measured the figures, without which they cannot be compared."""

from __future__ import annotations

import os
import platform
import re
from dataclasses import dataclass
from datetime import UTC, date, datetime
from importlib import metadata
from pathlib import Path

_PACKAGES = ("celery", "redis", "claude-agent-sdk")


@dataclass(frozen=True)
class Machine:
    cores: int
    memory_mb: int
    kernel: str
    versions: dict[str, str]
    day: date

    def __str__(self) -> str:
        versions = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        memory = f"{self.memory_mb / 1024:.0f} GB"
        return f"{self.day}, {self.cores} cores, {memory}, Linux {self.kernel}, {versions}"


def total_memory_mb(meminfo: str) -> int:
    """Return the machine's memory in MB, from the text of ``/proc/meminfo``."""
    match = re.search(r"^MemTotal:\s+(\d+) kB$", meminfo, re.MULTILINE)
    return int(match.group(1)) // 1024 if match else 0


def this_machine() -> Machine:
    return Machine(
        cores=len(os.sched_getaffinity(0)),
        memory_mb=total_memory_mb(Path("/proc/meminfo").read_text()),
        kernel=platform.release().partition("-")[0],
        versions={"Python": platform.python_version()} | {name: metadata.version(name) for name in _PACKAGES},
        day=datetime.now(UTC).date(),
    )
