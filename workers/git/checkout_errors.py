"""Errors of the checkout, which name the limit that git met.

No remote writes among git's messages there, and the agent has not started.
"""

from __future__ import annotations

import signal
from typing import Final

from workers.errors import JobError
from workers.git.command import DISK_FULL, out_of_memory, process_limit
from workers.git.process import last_line
from workers.git.trace import EVENT, Limit, trace_of_lines
from workers.sandbox.sandbox import Completed, ResourceLimits, Sandbox

# git's events are among its messages.
TRACED: Final = {"GIT_TRACE2_EVENT": "1"}
# git does not say why it could not write a file of the checkout, and what it wrote of it stays.
_NOT_WRITTEN: Final = ("unable to write file", "unable to create file", "cannot create directory at")
_FULL_BYTES: Final = 2**20


async def explain_checkout(sandbox: Sandbox, done: Completed) -> JobError:
    """Return the error for a command of the checkout that failed, with the evidence of the sandbox's disk."""
    refused = sandbox.process_error(done.returncode) is not None
    free = await sandbox.run(["stat", "--file-system", "--format=%a %S %d", "."], env={"LC_ALL": "C"})
    return checkout_error(done, sandbox.config.limits, processes_refused=refused, disk_full=is_full(free.stdout))


def is_full(free: bytes) -> bool:
    """Tell whether a disk has no room, from its free blocks, their size in bytes, and its free inodes."""
    words = free.decode(errors="replace").split()
    if len(words) != 3 or not all(word.isdecimal() for word in words):
        return False
    blocks, size, inodes = map(int, words)
    return blocks * size < _FULL_BYTES or inodes == 0


def checkout_error(done: Completed, limits: ResourceLimits, *, processes_refused: bool, disk_full: bool) -> JobError:
    """Return the error for a failed checkout.

    Args:
        done: the command, with git's events among the messages.
        limits: limits of the sandbox.
        processes_refused: the limit of processes was reached. A thread that git cannot start has the same error for
            lack of memory.
        disk_full: the disk of the checkout has no room.
    """
    stderr = done.stderr.decode(errors="replace")
    trace = trace_of_lines(stderr.splitlines())
    if trace.limit is Limit.DISK or (disk_full and trace.first(*_NOT_WRITTEN)):
        return JobError("disk_full", DISK_FULL, retryable=True)
    if processes_refused or trace.limit is Limit.PROCESSES:
        return process_limit(limits.processes)
    if trace.limit is Limit.MEMORY:
        return out_of_memory(limits.memory_mb)
    if trace.limit is Limit.FILE_SIZE or done.returncode == 128 + signal.SIGXFSZ:
        return JobError(
            "repo_too_large",
            f"The repository of repo_url has a file, or the pack of its history, that is larger than the "
            f"{limits.file_size_mb:,} MB that this shard allows (sandbox.file_size_mb); ask the operator to raise the "
            "limit, or use a smaller repository.",
        )
    said = last_line("\n".join(line for line in stderr.splitlines() if not line.startswith(EVENT)))
    return JobError(
        "checkout_failed", f"The repository could not be checked out; try again. git said: {said}", retryable=True
    )
