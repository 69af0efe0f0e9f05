"""When each step of a job was reached, from what the API and the kernel say."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

HZ: Final = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Start:
    """When each step of one job was reached, in milliseconds after the request was sent."""

    answered: float
    dispatched: float
    claimed: float
    preparing: float
    cloning: float | None
    agent_phase: float
    agent: float

    @property
    def without_clone(self) -> float:
        """The agent's start, less the phase that clones."""
        return self.agent - (self.agent_phase - self.cloning if self.cloning is not None else 0)


def read_start(
    submitted: float, answered: float, agent: float, job: dict[str, Any], events: Sequence[dict[str, Any]]
) -> Start:
    """Work a job's steps out.

    Args:
        submitted, answered, agent: seconds since 1970: the request, its answer, the agent's process.
        job: as the API shows it.
        events: its events.
    """
    phases = {event["data"]["phase"]: event["at"] for event in events if event["kind"] == "job.phase"}

    def after(moment: float) -> float:
        return round((moment - submitted) * 1000, 1)

    def stamp(text: str) -> float:
        return after(datetime.fromisoformat(text).timestamp())

    attempt = job["attempts"][0]
    return Start(
        answered=after(answered),
        dispatched=stamp(attempt["sent_at"]),
        claimed=stamp(attempt["claimed_at"]),
        preparing=stamp(phases["preparing"]),
        cloning=stamp(phases["cloning"]) if "cloning" in phases else None,
        agent_phase=stamp(phases["agent"]),
        agent=after(agent),
    )


def wall_time(ticks: int, boot_time: float, hz: int = HZ) -> float:
    """Say when a process started, in seconds since 1970, given field 22 of its stat.

    The kernel counts in ticks (10 ms) since boot and rounds down; this gives the end of the tick, so no duration up
    to it comes out too good.
    """
    return boot_time + (ticks + 1) / hz


def boot_time() -> float:
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
