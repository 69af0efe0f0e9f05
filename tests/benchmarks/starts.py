"""Times of the steps of a job's start, from the API and the kernel."""

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
    """Times of the steps of one job's start, in milliseconds after the request was sent."""

    answered: float
    dispatched: float
    claimed: float
    preparing: float
    cloning: float | None
    agent_phase: float
    agent: float

    @property
    def without_clone(self) -> float:
        """Start of the agent without the time of the phase that clones."""
        return self.agent - (self.agent_phase - self.cloning if self.cloning is not None else 0)


def read_start(
    submitted: float, answered: float, agent: float, job: dict[str, Any], events: Sequence[dict[str, Any]]
) -> Start:
    """Return the times of a job's steps.

    Args:
        submitted, answered, agent: the times of the request, its answer and the agent's process, in seconds since 1970.
        job: the job as the API returns it.
        events: the events of the job.
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
    """Return the start time of a process in seconds since 1970, from field 22 of its ``stat`` file.

    The kernel counts ticks of 10 ms since boot and rounds down. The end of the tick is returned, so that no measured
    duration is too short.
    """
    return boot_time + (ticks + 1) / hz


def boot_time() -> float:
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
