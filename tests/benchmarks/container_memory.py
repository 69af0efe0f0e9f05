"""Memory of a container by process, as the host's kernel counts it."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.benchmarks.memory import Memory, memory_of, total
from tests.benchmarks.shard import command

_CONTROL_GROUPS = Path("/sys/fs/cgroup")
# Several processes are Python interpreters, so the module that they run names them.
_MODULE = "-m"
_MB = 2**20


def memory_at_rest(ref: str) -> dict[str, Any]:
    """Return the memory of a container's processes, of its control group, and of the LXC process that monitors it."""
    inside = {pid: memory_of(pid) for pid in _group_processes(f"lxc.payload.{ref}")}
    outside = [memory_of(pid) for pid in _group_processes(f"lxc.monitor.{ref}")]
    return {
        "processes": {_process_name(pid): _resident_memory(memory) for pid, memory in sorted(inside.items())},
        "together": _resident_memory(total(inside.values())),
        "control_group_mb": _group_memory_mb(f"lxc.payload.{ref}"),
        "monitor_outside": _resident_memory(total(outside)),
    }


def _group_processes(group: str) -> list[int]:
    """Return the processes of a control group and of the groups below it, in versions 1 and 2."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cgroup"):
        with suppress(FileNotFoundError, ProcessLookupError):
            if any(group in line.split("/") for line in file.read_text().splitlines()):
                found.append(int(file.parent.name))
    return found


def _process_name(pid: int) -> str:
    words = command(pid)
    return words[words.index(_MODULE) + 1] if _MODULE in words else Path(words[0]).name


def _resident_memory(memory: Memory) -> dict[str, float | None]:
    return {"rss": memory.rss, "pss": memory.pss}


def _group_memory_mb(group: str) -> float:
    files = (_CONTROL_GROUPS / group / "memory.current", _CONTROL_GROUPS / "memory" / group / "memory.usage_in_bytes")
    file = next(file for file in files if file.exists())
    return round(int(file.read_text()) / _MB, 1)
