"""Bounds on the git processes of the runner, which work on what hostile agents and servers produced."""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import Sequence
from typing import Final

from workers.sandbox import process_tree
from workers.sandbox.limits import MB, Groups, ResourceLimits, create_groups

# RLIMIT_AS also counts mapped files and reserved stacks, so git with its helpers cannot work with less.
MIN_ADDRESS_SPACE_MB: Final = 512
# git uses two threads for packs.
THREADS: Final = 2
NOT_CONFINED: Final = 125
REMOVE_TIMEOUT_S: Final = 10
_POLL_S: Final = 0.01

# The process enters the groups before it becomes git. Without the signal, git names a file that reaches the size limit.
_ENTER: Final = f"""
trap '' XFSZ
while [ "$1" != -- ]; do echo 0 > "$1/cgroup.procs" || exit {NOT_CONFINED}; shift; done
ulimit -c 0 && ulimit -f "$2" && ulimit -t "$3" || exit {NOT_CONFINED}
[ "$4" = none ] || ulimit -v "$4" || exit {NOT_CONFINED}
shift 4
exec "$@"
"""
# POSIX defines the units of ``ulimit``.
_BLOCKS_PER_MB: Final = MB // 512
_KIB_PER_MB: Final = MB // 1024


class Confinement:
    """Memory, processes and time of the runner's git.

    Git runs in control groups of its own next to the agent's, with the same limits. Where no group can limit memory,
    each process gets limits of its address space and processor time instead.

    Args:
        limits: limits of the job.
        groups: groups of the processes, which ``close`` removes; None for limits of each process only.
    """

    def __init__(self, limits: ResourceLimits, groups: Groups | None = None) -> None:
        self._limits = limits
        self._groups = groups or Groups({}, limits)

    @classmethod
    def create(cls, limits: ResourceLimits) -> Confinement:
        """Create the groups next to those of the agent, wherever the shard may create any."""
        own = process_tree.read(os.getpid())
        return cls(limits, create_groups(limits, own.started if own else 0))

    @property
    def memory_mb(self) -> int:
        """Memory that git may use, in MB."""
        if self._groups.limits_memory:
            return self._limits.memory_mb
        return max(self._limits.memory_mb, MIN_ADDRESS_SPACE_MB)

    def wrap(
        self, argv: Sequence[str], *, timeout_s: float, max_file_mb: int, address_space_mb: int | None = None
    ) -> list[str]:
        """Return the command that runs ``argv`` within the bounds.

        Args:
            timeout_s: time that the caller allows; the processor time follows from it.
            max_file_mb: size of the largest file that it may write.
            address_space_mb: bound of each process, in addition to the groups.
        """
        if address_space_mb is None and not self._groups.limits_memory:
            address_space_mb = self.memory_mb
        bounds = [
            str(max_file_mb * _BLOCKS_PER_MB),
            str(math.ceil(timeout_s) * THREADS),
            "none" if address_space_mb is None else str(address_space_mb * _KIB_PER_MB),
        ]
        directories = [str(directory) for directory in self._groups.directories]
        return ["sh", "-c", _ENTER, "sh", *directories, "--", *bounds, *argv]

    def memory_kills(self) -> int:
        """Return the number of processes that the kernel killed at the memory limit."""
        return self._groups.memory_kills()

    @property
    def processes(self) -> int:
        """Number of processes that git may have."""
        return self._limits.processes

    def refused_processes(self) -> int:
        """Return how often the kernel refused a process at the limit."""
        return self._groups.refused_processes()

    def kill(self) -> None:
        """Kill every process in the groups, also one that left its session."""
        if self._groups:
            self._groups.kill_members()

    async def close(self) -> None:
        """Kill what is left and remove the groups; the method may be called again."""
        deadline = asyncio.get_running_loop().time() + REMOVE_TIMEOUT_S
        while self._groups and asyncio.get_running_loop().time() < deadline:
            self.kill()
            if self._groups.remove():
                break
            await asyncio.sleep(_POLL_S)
