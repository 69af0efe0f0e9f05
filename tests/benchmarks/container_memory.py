"""The memory of a container, process by process, as the kernel counts it from outside."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.benchmarks.memory import Memory, memory_of, total
from tests.benchmarks.shard import command

_CONTROL_GROUPS = Path("/sys/fs/cgroup")
# Interpreters are told apart by the module that they run.
_MODULE = "-m"
_MB = 2**20


def at_rest(ref: str) -> dict[str, Any]:
    """What the processes of a container have resident, what its control group counts, and LXC's own process for it."""
    inside = {pid: memory_of(pid) for pid in _members(f"lxc.payload.{ref}")}
    outside = [memory_of(pid) for pid in _members(f"lxc.monitor.{ref}")]
    return {
        "processes": {_named(pid): _shown(memory) for pid, memory in sorted(inside.items())},
        "together": _shown(total(inside.values())),
        "control_group_mb": _counted(f"lxc.payload.{ref}"),
        "monitor_outside": _shown(total(outside)),
    }


def _members(group: str) -> list[int]:
    """The processes of a control group and of those below it, of version 1 as of 2."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cgroup"):
        with suppress(FileNotFoundError, ProcessLookupError):
            if any(group in line.split("/") for line in file.read_text().splitlines()):
                found.append(int(file.parent.name))
    return found


def _named(pid: int) -> str:
    words = command(pid)
    return words[words.index(_MODULE) + 1] if _MODULE in words else Path(words[0]).name


def _shown(memory: Memory) -> dict[str, float | None]:
    return {"rss": memory.rss, "pss": memory.pss}


def _counted(group: str) -> float:
    files = (_CONTROL_GROUPS / group / "memory.current", _CONTROL_GROUPS / "memory" / group / "memory.usage_in_bytes")
    file = next(file for file in files if file.exists())
    return round(int(file.read_text()) / _MB, 1)
