"""Limits on an agent's processes, by control groups where the shard may create them.

The code supports both versions of the kernel's interface: see Documentation/admin-guide/cgroup-v1/ and cgroup-v2.rst of
the kernel's source. A hierarchy that cannot be written is not used; the caller must then watch what it would limit.
"""

from __future__ import annotations

import os
import re
import resource
import signal
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from workers.errors import JobError
from workers.sandbox import process_tree

MB: Final = 2**20
# bubblewrap's own two processes are in the agent's group and must not count against its limit.
BWRAP_PROCESSES: Final = 2
# The agent's own program does not start with less private memory.
MIN_DATA_MB: Final = 1024
# Controllers of version 1. Version 2 has one group for all of them, which is named "" here.
V1_CONTROLLERS: Final = ("memory", "pids", "freezer")
V2: Final = ""
# Group of the worker and its runners, so that the group above it has no processes; see ``own_group``.
LEAF: Final = "shard-worker"


@dataclass(frozen=True)
class ResourceLimits:
    """Limits of one job's agent, for all its processes together except where a comment says otherwise."""

    memory_mb: int = 2048
    processes: int = 256
    file_size_mb: int = 2048  # for each file
    disk_mb: int = 20_480  # where the job has a disk image; its repository of the runner counts too
    disk_files: int = 2_000_000  # files and folders in the disk image
    open_files: int = 4096  # for each process


def rlimits(limits: ResourceLimits, *, bound_data: bool = False, bound_processes: bool = True) -> dict[int, int]:
    """Return the resource limits of a process, by their number in ``resource``.

    Args:
        bound_data: limit the private memory too, which is needed only where no control group limits the memory.
        bound_processes: limit the processes of the user, which is needed only where no control group limits them. It
            counts those of another shard of the machine too, and no one can see who reached it.
    """
    # Not the address space: Node.js reserves 11 GB of it for one WebAssembly memory, and a page of Chromium 1.5 TB.
    data = {resource.RLIMIT_DATA: max(limits.memory_mb, MIN_DATA_MB) * MB} if bound_data else {}
    processes = {resource.RLIMIT_NPROC: limits.processes} if bound_processes else {}
    return (
        data
        | processes
        | {
            resource.RLIMIT_FSIZE: limits.file_size_mb * MB,
            resource.RLIMIT_NOFILE: limits.open_files,
            resource.RLIMIT_CORE: 0,
        }
    )


def apply_rlimits(pid: int, limits: ResourceLimits, groups: Groups) -> None:
    """Set the limits of a process and of all that it will start; never raise an existing limit."""
    bounds = rlimits(limits, bound_data=not groups.limits_memory, bound_processes=not groups.limits_processes)
    for number, wanted in bounds.items():
        with suppress(ProcessLookupError):
            _soft, hard = resource.prlimit(pid, number)
            value = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
            resource.prlimit(pid, number, (value, value))


def own_groups(cgroup: str, mountinfo: str) -> dict[str, Path]:
    """Return the directory of the caller's own group for each controller.

    Args:
        cgroup: text of ``/proc/self/cgroup``.
        mountinfo: text of ``/proc/self/mountinfo``.

    Returns:
        Directory by controller; version 2 has the name ``""``.
    """
    mounts = _cgroup_mounts(mountinfo)
    found: dict[str, Path] = {}
    for line in cgroup.splitlines():
        number, names, path = line.split(":", 2)
        for name in [V2] if number == "0" else names.split(","):
            if name in mounts:
                root, point = mounts[name]
                inside = path[len(root) :] if root != "/" and path.startswith(root) else path
                # A path outside of the mount is not visible. Then the mount itself is our group.
                visible = root == "/" or path.startswith(root)
                found[name] = Path(point, inside.lstrip("/")) if visible else Path(point)
    return found


def group_bases(cgroup: str, mountinfo: str) -> dict[str, Path]:
    """Return the directory in which to create groups, for each controller; arguments as those of ``own_groups``.

    It is the caller's own group, and in version 2 the group above if the caller is in the leaf.
    """
    found = own_groups(cgroup, mountinfo)
    own = found.get(V2)
    # Version 1 allows groups below one with processes.
    if own is not None and "memory" not in found and own.name == LEAF and own != Path(_cgroup_mounts(mountinfo)[V2][1]):
        found[V2] = own.parent
    return found


def _cgroup_mounts(mountinfo: str) -> dict[str, tuple[str, str]]:
    mounts: dict[str, tuple[str, str]] = {}
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        fields, (kind, _source, options) = left.split(), right.split(" ", 2)
        if kind == "cgroup2":
            mounts[V2] = (fields[3], fields[4])
        elif kind == "cgroup":
            mounts.update(dict.fromkeys(options.split(","), (fields[3], fields[4])))
    return mounts


def _write_file(path: Path, text: str) -> bool:
    try:
        path.write_text(text)
    except OSError:
        return False
    return True


def _read_file(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _counter(text: str, name: str) -> int:
    match = re.search(rf"^{name} (\d+)$", text, re.MULTILINE)
    return int(match.group(1)) if match else 0


class Groups:
    """Control groups of one sandbox, inside the caller's own or next to its leaf."""

    def __init__(self, directories: Mapping[str, Path], limits: ResourceLimits) -> None:
        self._dirs = dict(directories)
        self._limits = limits
        self.limits_memory = self._limit_memory()
        self.limits_swap = self._limit_swap()
        self.limits_processes = self._limit_processes()

    @classmethod
    def create(cls, name: str, bases: Mapping[str, Path], limits: ResourceLimits) -> Groups:
        """Create a group with this name in every directory of ``bases`` that can be written."""
        # Where version 1 has the memory controller, version 2 does not have it and limits nothing.
        wanted = V1_CONTROLLERS if "memory" in bases else (V2,)
        made: dict[str, Path] = {}
        for controller in wanted:
            if controller not in bases:
                continue
            if controller == V2:
                for needed in ("+memory", "+pids"):
                    _write_file(bases[V2] / "cgroup.subtree_control", needed)
            with suppress(OSError):
                (bases[controller] / name).mkdir(exist_ok=True)
                made[controller] = bases[controller] / name
        return cls(made, limits)

    def __bool__(self) -> bool:
        return bool(self._dirs)

    @property
    def abilities(self) -> frozenset[str]:
        """Names of what these groups do for the agent."""
        named = {
            "memory": self.limits_memory,
            "swap": self.limits_swap,
            "processes": self.limits_processes,
            "freeze": self.can_freeze,
        }
        return frozenset(name for name, able in named.items() if able)

    @property
    def directories(self) -> tuple[Path, ...]:
        """Directories of the groups, one for each controller."""
        return tuple(self._dirs.values())

    @property
    def can_freeze(self) -> bool:
        return V2 in self._dirs or "freezer" in self._dirs

    def _limit_memory(self) -> bool:
        limit = str(self._limits.memory_mb * MB)
        if "memory" in self._dirs:
            return _write_file(self._dirs["memory"] / "memory.limit_in_bytes", limit)
        return V2 in self._dirs and _write_file(self._dirs[V2] / "memory.max", limit)

    def _limit_swap(self) -> bool:
        # Version 1 limits memory and swap together, and only after the limit on memory.
        if "memory" in self._dirs:
            limit = str(self._limits.memory_mb * MB)
            return _write_file(self._dirs["memory"] / "memory.memsw.limit_in_bytes", limit)
        return V2 in self._dirs and _write_file(self._dirs[V2] / "memory.swap.max", "0")

    def _limit_processes(self) -> bool:
        directory = self._dirs.get("pids", self._dirs.get(V2))
        return directory is not None and _write_file(
            directory / "pids.max", str(self._limits.processes + BWRAP_PROCESSES)
        )

    def add(self, pid: int) -> None:
        """Move a process into the groups; its later children are in them too.

        Raises:
            OSError: the process has ended, or the kernel refused.
        """
        for directory in self._dirs.values():
            (directory / "cgroup.procs").write_text(str(pid))

    def pids(self) -> set[int]:
        """Return the processes that are in any of the groups now."""
        return {int(pid) for directory in self._dirs.values() for pid in _read_file(directory / "cgroup.procs").split()}

    def set_frozen(self, frozen: bool) -> None:
        if V2 in self._dirs:
            _write_file(self._dirs[V2] / "cgroup.freeze", "1" if frozen else "0")
        elif "freezer" in self._dirs:
            _write_file(self._dirs["freezer"] / "freezer.state", "FROZEN" if frozen else "THAWED")

    def is_frozen(self) -> bool:
        if V2 in self._dirs:
            return _counter(_read_file(self._dirs[V2] / "cgroup.events"), "frozen") == 1
        return "freezer" in self._dirs and _read_file(self._dirs["freezer"] / "freezer.state").strip() == "FROZEN"

    def kill(self) -> None:
        """Make the kernel kill all processes at once; version 1 cannot, so the caller must signal each of them."""
        if V2 in self._dirs:
            _write_file(self._dirs[V2] / "cgroup.kill", "1")

    def kill_members(self) -> None:
        """Kill all processes in the groups, also frozen ones."""
        self.kill()
        for pid in self.pids():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.set_frozen(False)

    def memory_kills(self) -> int:
        """Return the number of processes that the kernel killed at the memory limit."""
        if "memory" in self._dirs:
            return _counter(_read_file(self._dirs["memory"] / "memory.oom_control"), "oom_kill")
        return _counter(_read_file(self._dirs[V2] / "memory.events"), "oom_kill") if V2 in self._dirs else 0

    def refused_processes(self) -> int:
        """Return how often the kernel refused a process at the limit of the groups."""
        directory = self._dirs.get("pids", self._dirs.get(V2))
        return _counter(_read_file(directory / "pids.events"), "max") if directory is not None else 0

    def remove(self) -> bool:
        """Remove the groups; return False while one still has a process."""
        for controller, directory in list(self._dirs.items()):
            with suppress(OSError):
                directory.rmdir()
            if not directory.exists():
                del self._dirs[controller]
        return not self._dirs


def _own_group_directories() -> dict[str, Path]:
    return group_bases(_read_file(Path("/proc/self/cgroup")), _read_file(Path("/proc/self/mountinfo")))


def create_groups(limits: ResourceLimits, started: int) -> Groups:
    """Create the groups of one sandbox; none where there is no cgroup file system.

    Args:
        limits: limits of the groups.
        started: start time of the calling process, in clock ticks since boot; with the pid it identifies the owner in
            the name of the group.
    """
    return Groups.create(f"agent-{os.getpid()}-{started}-{uuid.uuid4().hex[:8]}", _own_group_directories(), limits)


def require_abilities(groups: Groups, wanted: frozenset[str]) -> Groups:
    """Return the groups if they have all these abilities; remove them otherwise.

    Args:
        groups: groups of one sandbox.
        wanted: names in ``Groups.abilities``.

    Raises:
        JobError: ``sandbox_failed``, an ability is missing.
    """
    if missing := wanted - groups.abilities:
        groups.remove()
        message = f"The control groups for {', '.join(sorted(missing))} could not be set up on this shard"
        raise JobError("sandbox_failed", f"{message}; ask an operator to check it.", retryable=True)
    return groups


def sweep_groups() -> int:
    """Kill and remove the groups of processes that have ended; return their number.

    With version 1 a frozen agent cannot die with its runner, because it must be thawed first.
    """
    swept = 0
    for controller, base in _own_group_directories().items():
        if controller not in (V2, *V1_CONTROLLERS) or not base.is_dir():
            continue
        for directory in base.glob("agent-*-*-*"):
            pid, started = directory.name.split("-")[1:3]
            owner = process_tree.read(int(pid)) if pid.isdecimal() else None
            if owner is None or str(owner.started) != started:
                stale = Groups({controller: directory}, ResourceLimits())
                stale.kill_members()
                swept += stale.remove()
    return swept
