"""Watchdog of an agent without output."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from myctobot.contract.jobs import EventKind
from workers.errors import JobError
from workers.runner.output_watchdog import OutputWatchdog
from workers.runner.pausable_clock import PausableClock


class Agent:
    """Agent that emits events at an interval."""

    def __init__(self, limit_s: Any, clock: PausableClock | None = None) -> None:
        self.said: list[EventKind] = []
        self.killed = False
        self.clock = clock or PausableClock()
        self.watch = OutputWatchdog(self.clock, self.hear, limit_s)

    async def hear(self, kind: EventKind, data: dict[str, Any]) -> None:
        self.said.append(kind)

    async def kill(self) -> None:
        self.killed = True

    async def talk(self, times: int, every_s: float) -> str:
        for _ in range(times):
            await asyncio.sleep(every_s)
            await self.watch.emit(EventKind.LOG, {})
        return "done"

    def run(self, times: int, every_s: float) -> str:
        return asyncio.run(self.watch.watch(self.talk(times, every_s), self.kill))


def test_an_agent_with_output_may_run_longer_than_the_limit() -> None:
    agent = Agent(0.3)
    assert agent.run(10, 0.06) == "done"
    assert (len(agent.said), agent.killed) == (10, False)


def test_a_silent_agent_is_killed() -> None:
    agent = Agent(0.2)
    with pytest.raises(JobError) as caught:
        agent.run(1, 30)
    assert (caught.value.code, agent.killed) == ("no_output", True)
    assert "no_output_timeout_s" in str(caught.value)


def test_without_a_limit_a_silent_agent_continues() -> None:
    assert Agent(None).run(1, 0.3) == "done"


def test_time_in_which_the_agent_is_frozen_does_not_count() -> None:
    clock = PausableClock()
    agent = Agent(0.2, clock)
    clock.pause()
    assert agent.run(1, 0.6) == "done"


def test_an_error_of_the_agent_is_raised() -> None:
    async def fail() -> str:
        raise JobError("agent_failed", "It gave up.")

    agent = Agent(5)
    with pytest.raises(JobError, match="gave up"):
        asyncio.run(agent.watch.watch(fail(), agent.kill))
