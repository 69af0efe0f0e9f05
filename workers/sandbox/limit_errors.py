"""Errors of an agent that reached a limit of its sandbox; each names the limit."""

from __future__ import annotations

from workers.errors import JobError
from workers.sandbox.limits import ResourceLimits


def out_of_memory(limits: ResourceLimits) -> JobError:
    return JobError(
        "agent_out_of_memory",
        f"The agent used more than {limits.memory_mb} MB of memory (sandbox.memory_mb) and was ended; "
        "ask for less at once, or ask an operator to raise the limit.",
    )


def process_limit(limits: ResourceLimits, returncode: int) -> JobError:
    return JobError(
        "agent_process_limit",
        f"The agent reached the limit of {limits.processes} processes (sandbox.processes) and ended with exit code "
        f"{returncode}; ask for less at the same time, or ask an operator to raise the limit.",
    )
