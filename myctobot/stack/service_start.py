"""Start of the embedded database and broker under the supervisor. What fails is tried again with growing pauses."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from myctobot.stack.console import StackConsole
from myctobot.stack.errors import ServiceFailed
from myctobot.stack.programs import Program
from myctobot.stack.restart import GiveUp, decide_restart
from myctobot.stack.services import START_TIMEOUT_S, Service
from myctobot.stack.supervisor import Supervisor

_Result = TypeVar("_Result")


class ServiceStarter:
    """Start of services.

    Args:
        give_up_after: number of failed tries of one step in a row after which there is no other one; None for no such
            number.
    """

    def __init__(self, console: StackConsole, supervisor: Supervisor, give_up_after: int | None) -> None:
        self._console, self._supervisor, self._give_up_after = console, supervisor, give_up_after

    async def start(self, service: Service) -> str:
        """Start a service, wait until it answers, complete its setup, and return its URL.

        Raises:
            StackError: the service cannot start on this machine, or it was given up.
        """
        self._console.say(f"starting {service.name}")
        program = await self.try_until_done(service, lambda: _prepared(service))
        self._supervisor.start(program, service.program_again)
        timeout_s = None if self._give_up_after is None else START_TIMEOUT_S
        await self._supervisor.wait_until(service.name, service.is_ready, timeout_s)
        await self.try_until_done(service, service.finish)
        return service.url

    async def try_until_done(self, service: Service, step: Callable[[], _Result]) -> _Result:
        """Run a step in a thread until it succeeds, such as one that a full disk refuses, and return its result.

        Raises:
            StackError: no other try can succeed, or the step was given up.
        """
        failures = 0
        while True:
            try:
                return await asyncio.to_thread(step)
            except (ServiceFailed, OSError) as error:
                decision = decide_restart(failures, 0, self._give_up_after)
                if isinstance(decision, GiveUp):
                    raise
                failures = decision.failed_starts
                self._report(service, error, decision.after_s)
            await asyncio.sleep(decision.after_s)

    def _report(self, service: Service, error: ServiceFailed | OSError, after_s: float) -> None:
        text = error.message if isinstance(error, ServiceFailed) else f"{service.name} cannot be prepared: {error}"
        for line in text.splitlines():
            self._console.say(line)
        self._console.say(f"trying {service.name} again in {after_s:g} s; its log: {service.log}")


def _prepared(service: Service) -> Program:
    service.prepare()
    service.log.unlink(missing_ok=True)
    return service.program()
