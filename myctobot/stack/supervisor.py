"""Starts processes, shows what they write, starts them again when they crash, and ends them all.

honcho, whose printer this uses, stops everything as soon as one process ends; here one may crash while
the others go on, and everything is stopped in a given order.
"""

from __future__ import annotations

import asyncio
import os
import signal
from asyncio.subprocess import Process
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import count

from myctobot.stack.console import Console
from myctobot.stack.errors import ServiceFailed
from myctobot.stack.pipes import piped
from myctobot.stack.processes import Records
from myctobot.stack.programs import Program
from myctobot.stack.restart import GiveUp, after_exit
from myctobot.stack.services import TAIL_LINES

_KILL_WAIT_S = 5.0
_LAST_LINES_S = 2.0
_CHECK_EVERY_S = 0.1
_PROGRESS_EVERY_S = 5.0


@dataclass
class Watched:
    """One program under supervision."""

    program: Program
    # Asked before each further start, for a program that has to change until its first success.
    remake: Callable[[], Program] | None = None
    tail: deque[str] = field(default_factory=lambda: deque(maxlen=TAIL_LINES))
    process: Process | None = None
    stopping: bool = False
    keeper: asyncio.Task[None] | None = None


class Supervisor:
    """Runs programs until ``stop_all``; ``failed`` is done as soon as one of them cannot be started."""

    def __init__(self, console: Console, records: Records) -> None:
        self._console = console
        self._records = records
        self._watched: dict[str, Watched] = {}
        self.failed: asyncio.Future[ServiceFailed] = asyncio.get_running_loop().create_future()

    def pids(self) -> set[int]:
        """The processes that the supervisor itself waits for."""
        return {item.process.pid for item in self._watched.values() if item.process}

    def start(self, program: Program, remake: Callable[[], Program] | None = None) -> None:
        """Start a program and keep it running; ``remake`` gives the program for each further start."""
        watched = self._watched[program.name] = Watched(program, remake)
        watched.keeper = asyncio.create_task(self._keep(watched), name=program.name)

    async def run_once(self, program: Program, timeout_s: float, *, secret: bool = False) -> str:
        """Run a program to its end and return what it wrote to standard output.

        Args:
            timeout_s: seconds until it is killed.
            secret: do not show its standard output.

        Raises:
            ServiceFailed: it failed, or took too long.
        """
        watched = self._watched[program.name] = Watched(program)
        show = partial(self._show, watched)
        output: list[str] = []
        process: Process | None = None
        try:
            async with (
                asyncio.timeout(timeout_s),
                piped(output.append, *(() if secret else (show,))) as stdout,
                piped(show) as stderr,
            ):
                process = watched.process = await self._spawn(program, stdout=stdout, stderr=stderr)
                await process.wait()
        except TimeoutError:
            raise ServiceFailed(program.name, f"took longer than {timeout_s:g} s", list(watched.tail)) from None
        finally:
            if process and process.returncode is None:
                _kill_group(process.pid)
                await process.wait()
            self._records.remove(program.name)
            del self._watched[program.name]
        if process.returncode != 0:
            raise ServiceFailed(program.name, f"ended with exit code {process.returncode}", list(watched.tail))
        return "\n".join(output)

    async def wait_until(self, name: str, check: Callable[[], bool], timeout_s: float) -> None:
        """Wait for a program to answer, saying every few seconds that it still does not.

        Args:
            check: asked again and again, in a thread.

        Raises:
            ServiceFailed: it did not answer within ``timeout_s`` seconds.
        """
        loop = asyncio.get_running_loop()
        start = loop.time()
        for seconds in count(1):
            while loop.time() - start < min(seconds * _PROGRESS_EVERY_S, timeout_s):
                if await asyncio.to_thread(check):
                    return
                await asyncio.sleep(_CHECK_EVERY_S)
            if loop.time() - start >= timeout_s:
                break
            self._console.say(f"waiting for {name} ({loop.time() - start:.0f} of at most {timeout_s:.0f} s)")
        raise ServiceFailed(name, f"did not answer within {timeout_s:g} s", list(self._watched[name].tail))

    async def stop(self, name: str) -> None:
        """Ask a program to end, kill its process group when its time is over, and forget it."""
        watched = self._watched.get(name)
        if watched is None:
            return
        watched.stopping = True
        if watched.process and watched.process.returncode is None:
            await self._end(watched.program, watched.process)
            if watched.keeper:
                # Its last lines are still to be shown.
                await asyncio.wait([watched.keeper], timeout=_LAST_LINES_S)
        if watched.keeper:
            watched.keeper.cancel()
            with suppress(asyncio.CancelledError):
                await watched.keeper
        self._watched.pop(name, None)
        self._records.remove(name)

    async def stop_all(self) -> None:
        """Stop everything, the last started first."""
        for name in reversed(list(self._watched)):
            await self.stop(name)

    def kill_all(self) -> None:
        """For the impatient: no more grace for anybody."""
        for watched in self._watched.values():
            watched.stopping = True
            if watched.process and watched.process.returncode is None:
                _kill_group(watched.process.pid)

    async def _end(self, program: Program, process: Process) -> None:
        with suppress(ProcessLookupError):
            process.send_signal(program.stop_signal)
        try:
            async with asyncio.timeout(program.stop_timeout_s):
                await process.wait()
        except TimeoutError:
            self._console.say(f"{program.name} did not stop within {program.stop_timeout_s:g} s; killing it")
        # Also after a clean end: what it started in its group goes with it.
        _kill_group(process.pid)
        try:
            async with asyncio.timeout(_KILL_WAIT_S):
                await process.wait()
        except TimeoutError:
            self._console.say(f"{program.name} (pid {process.pid}) cannot be killed: the kernel holds it")

    async def _keep(self, watched: Watched) -> None:
        loop = asyncio.get_running_loop()
        name, failed_starts = watched.program.name, 0
        while True:
            started = loop.time()
            code = await self._run(watched)
            if watched.stopping:
                return
            decision = after_exit(failed_starts, loop.time() - started)
            if isinstance(decision, GiveUp):
                reason = f"ended {decision.failed_starts} times in a row right after its start, with {_ending(code)}"
                self._fail(ServiceFailed(name, reason, list(watched.tail)))
                return
            failed_starts = decision.failed_starts
            self._console.say(f"{name} ended with {_ending(code)}; starting it again in {decision.after_s:g} s")
            await asyncio.sleep(decision.after_s)
            if watched.remake:
                watched.program = watched.remake()

    async def _run(self, watched: Watched) -> int:
        async with piped(partial(self._show, watched)) as output:
            process = watched.process = await self._spawn(watched.program, stdout=output, stderr=output)
            code = await process.wait()
        self._records.remove(watched.program.name)
        return code

    async def _spawn(self, program: Program, *, stdout: int, stderr: int) -> Process:
        process = await asyncio.create_subprocess_exec(
            *program.command(),
            env=dict(program.env),
            cwd=program.cwd,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            pass_fds=program.pass_fds,
            start_new_session=True,
        )
        self._records.write(program.name, process.pid, program.stop_signal)
        return process

    def _show(self, watched: Watched, line: str) -> None:
        watched.tail.append(line)
        if log := watched.program.log:
            with log.open("a", encoding="utf-8") as file:
                file.write(f"{line}\n")
        else:
            self._console.line(watched.program.name, line)

    def _fail(self, error: ServiceFailed) -> None:
        if not self.failed.done():
            self.failed.set_result(error)


def _ending(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def _kill_group(leader: int) -> None:
    """Kill the process group that ``leader`` leads."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)
