"""An agent that says nothing for too long is ended."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from myctobot.contract.jobs import EventKind
from workers.errors import JobError
from workers.runner.output_watchdog import SilenceWatch
from workers.runner.pausable_clock import AwakeClock


class Agent:
    """Says something every so often, so many times."""

    def __init__(self, limit_s: Any, clock: AwakeClock | None = None) -> None:
        self.said: list[EventKind] = []
        self.killed = False
        self.clock = clock or AwakeClock()
        self.watch = SilenceWatch(self.clock, self.hear, limit_s)

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
        return asyncio.run(self.watch.over(self.talk(times, every_s), self.kill))


def test_one_that_talks_may_go_on_for_longer_than_the_limit() -> None:
    agent = Agent(0.3)
    assert agent.run(10, 0.06) == "done"
    assert (len(agent.said), agent.killed) == (10, False)


def test_one_that_falls_silent_is_killed() -> None:
    agent = Agent(0.2)
    with pytest.raises(JobError) as caught:
        agent.run(1, 30)
    assert (caught.value.code, agent.killed) == ("no_output", True)
    assert "no_output_timeout_s" in str(caught.value)


def test_without_a_limit_nobody_watches() -> None:
    assert Agent(None).run(1, 0.3) == "done"


def test_a_frozen_one_cannot_talk() -> None:
    clock = AwakeClock()
    agent = Agent(0.2, clock)
    clock.sleep()
    assert agent.run(1, 0.6) == "done"


def test_what_the_agent_fails_with_goes_on() -> None:
    async def fail() -> str:
        raise JobError("agent_failed", "It gave up.")

    agent = Agent(5)
    with pytest.raises(JobError, match="gave up"):
        asyncio.run(agent.watch.over(fail(), agent.kill))
