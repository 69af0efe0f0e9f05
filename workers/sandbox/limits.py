"""Limits on an agent's processes, by control groups where the shard may create them.

Both versions of the kernel's interface are spoken: Documentation/admin-guide/cgroup-v1/ and
cgroup-v2.rst of the kernel's source. A hierarchy that cannot be written is left out; what it would
have limited is then the caller's to watch.
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

from workers.sandbox.sandbox import process_tree

MB: Final = 2**20
# bubblewrap's own two processes live in the agent's group and must not eat its share.
MACHINERY_PROCESSES: Final = 2
# The controllers that are used of version 1; of version 2 there is one group for all, named "".
V1_CONTROLLERS: Final = ("memory", "pids", "freezer")
V2: Final = ""


@dataclass(frozen=True)
class Limits:
    """What one job's agent may use, all its processes taken together unless said otherwise."""

    memory_mb: int = 2048
    processes: int = 256
    file_size_mb: int = 2048  # of one file
    open_files: int = 4096  # of one process


def rlimits(limits: Limits) -> dict[int, int]:
    """Give the resource limits that hold in all cases, by their number in ``resource``."""
    return {
        resource.RLIMIT_FSIZE: limits.file_size_mb * MB,
        resource.RLIMIT_NOFILE: limits.open_files,
        resource.RLIMIT_NPROC: limits.processes,
        resource.RLIMIT_CORE: 0,
    }


def apply_rlimits(pid: int, limits: Limits) -> None:
    """Set the limits of a process and of all that it will start, never above what it has."""
    for number, wanted in rlimits(limits).items():
        with suppress(ProcessLookupError):
            _soft, hard = resource.prlimit(pid, number)
            value = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
            resource.prlimit(pid, number, (value, value))


def own_groups(cgroup: str, mountinfo: str) -> dict[str, Path]:
    """Find the directory of the caller's own group for each controller.

    Args:
        cgroup: the text of ``/proc/self/cgroup``.
        mountinfo: the text of ``/proc/self/mountinfo``.

    Returns:
        Controller to directory; version 2 under the name ``""``.
    """
    mounts = _cgroup_mounts(mountinfo)
    found: dict[str, Path] = {}
    for line in cgroup.splitlines():
        number, names, path = line.split(":", 2)
        for name in [V2] if number == "0" else names.split(","):
            if name in mounts:
                root, point = mounts[name]
                inside = path[len(root) :] if root != "/" and path.startswith(root) else path
                # A path outside of what is mounted can be seen nowhere: the mount itself is ours.
                visible = root == "/" or path.startswith(root)
                found[name] = Path(point, inside.lstrip("/")) if visible else Path(point)
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


def _write(path: Path, text: str) -> bool:
    try:
        path.write_text(text)
    except OSError:
        return False
    return True


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _counter(text: str, name: str) -> int:
    match = re.search(rf"^{name} (\d+)$", text, re.MULTILINE)
    return int(match.group(1)) if match else 0


class Groups:
    """The control groups of one sandbox, nested in the caller's own."""

    def __init__(self, directories: Mapping[str, Path], limits: Limits) -> None:
        self._dirs = dict(directories)
        self._limits = limits
        self.limits_memory = self._limit_memory()
        self.limits_processes = self._limit_processes()

    @classmethod
    def create(cls, name: str, own: Mapping[str, Path], limits: Limits) -> Groups:
        """Create a group called ``name`` in every hierarchy of ``own`` that can be written."""
        # Version 2 without its memory controller, beside version 1, has nothing to add.
        wanted = V1_CONTROLLERS if "memory" in own else (V2,)
        made: dict[str, Path] = {}
        for controller in wanted:
            if controller not in own:
                continue
            if controller == V2:
                for needed in ("+memory", "+pids"):
                    _write(own[V2] / "cgroup.subtree_control", needed)
            with suppress(OSError):
                (own[controller] / name).mkdir(exist_ok=True)
                made[controller] = own[controller] / name
        return cls(made, limits)

    def __bool__(self) -> bool:
        return bool(self._dirs)

    @property
    def can_freeze(self) -> bool:
        return V2 in self._dirs or "freezer" in self._dirs

    def _limit_memory(self) -> bool:
        limit = str(self._limits.memory_mb * MB)
        if "memory" in self._dirs:
            done = _write(self._dirs["memory"] / "memory.limit_in_bytes", limit)
            _write(self._dirs["memory"] / "memory.memsw.limit_in_bytes", limit)
            return done
        if V2 in self._dirs:
            _write(self._dirs[V2] / "memory.swap.max", "0")
            return _write(self._dirs[V2] / "memory.max", limit)
        return False

    def _limit_processes(self) -> bool:
        directory = self._dirs.get("pids", self._dirs.get(V2))
        return directory is not None and _write(
            directory / "pids.max", str(self._limits.processes + MACHINERY_PROCESSES)
        )

    def add(self, pid: int) -> None:
        """Move a process in; what it starts from then on is in too.

        Raises:
            OSError: the process is gone, or the kernel refused.
        """
        for directory in self._dirs.values():
            (directory / "cgroup.procs").write_text(str(pid))

    def pids(self) -> set[int]:
        """List the processes that are in any of the groups now."""
        return {int(pid) for directory in self._dirs.values() for pid in _read(directory / "cgroup.procs").split()}

    def set_frozen(self, frozen: bool) -> None:
        if V2 in self._dirs:
            _write(self._dirs[V2] / "cgroup.freeze", "1" if frozen else "0")
        elif "freezer" in self._dirs:
            _write(self._dirs["freezer"] / "freezer.state", "FROZEN" if frozen else "THAWED")

    def is_frozen(self) -> bool:
        if V2 in self._dirs:
            return _counter(_read(self._dirs[V2] / "cgroup.events"), "frozen") == 1
        return "freezer" in self._dirs and _read(self._dirs["freezer"] / "freezer.state").strip() == "FROZEN"

    def kill(self) -> None:
        """Ask the kernel to kill all at once; version 1 cannot, there the caller signals each process."""
        if V2 in self._dirs:
            _write(self._dirs[V2] / "cgroup.kill", "1")

    def end(self) -> None:
        """Kill all that is in the groups, frozen or not."""
        self.kill()
        for pid in self.pids():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.set_frozen(False)

    def memory_kills(self) -> int:
        """Count the processes that the kernel killed because the memory limit was reached."""
        if "memory" in self._dirs:
            return _counter(_read(self._dirs["memory"] / "memory.oom_control"), "oom_kill")
        return _counter(_read(self._dirs[V2] / "memory.events"), "oom_kill") if V2 in self._dirs else 0

    def remove(self) -> bool:
        """Remove the groups; False while one still holds a process."""
        for controller, directory in list(self._dirs.items()):
            with suppress(OSError):
                directory.rmdir()
            if not directory.exists():
                del self._dirs[controller]
        return not self._dirs


def _own() -> dict[str, Path]:
    return own_groups(_read(Path("/proc/self/cgroup")), _read(Path("/proc/self/mountinfo")))


def create_groups(limits: Limits, started: int) -> Groups:
    """Create the groups of one sandbox in the caller's own groups; none where there is no cgroup file system.

    Args:
        limits: what they hold.
        started: when the calling process started, in clock ticks since boot; the name tells whose they are.
    """
    return Groups.create(f"agent-{os.getpid()}-{started}-{uuid.uuid4().hex[:8]}", _own(), limits)


def sweep_groups() -> int:
    """End and remove the groups of processes that are no more; returns how many.

    A frozen agent of version 1 cannot die with its runner: it waits for someone to thaw it.
    """
    swept = 0
    for controller, own in _own().items():
        if controller not in (V2, *V1_CONTROLLERS) or not own.is_dir():
            continue
        for directory in own.glob("agent-*-*-*"):
            pid, started = directory.name.split("-")[1:3]
            owner = process_tree.read(int(pid)) if pid.isdecimal() else None
            if owner is None or str(owner.started) != started:
                stale = Groups({controller: directory}, Limits())
                stale.end()
                swept += stale.remove()
    return swept
