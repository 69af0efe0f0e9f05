"""Supervisor that starts processes, shows their output, restarts them after a crash, and stops them.

This uses honcho's printer, but not its process manager, which stops everything as soon as one process ends.
Here the other processes continue after a crash, and the supervisor stops all of them in a given order.
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
from pathlib import Path

from myctobot.lib.failing_parts import FailingParts, report_text
from myctobot.stack.console import StackConsole
from myctobot.stack.errors import ServiceFailed, StackError
from myctobot.stack.home import write_private
from myctobot.stack.pipes import piped
from myctobot.stack.processes import Records
from myctobot.stack.programs import Program
from myctobot.stack.restart import STABLE_AFTER_S, GiveUp, decide_restart
from myctobot.stack.services import TAIL_LINES

_KILL_WAIT_S = 5.0
_LAST_LINES_S = 2.0
_CHECK_EVERY_S = 0.1
_PROGRESS_EVERY_S = 5.0
_RARE_PROGRESS_S = 60.0
_RECORD_AGAIN_S = 10.0
# From this number of failed starts on, a program counts as failing.
_FAILING_STARTS = 3
_READABLE = 0o644
# Number of lines that are shown again after each end of a program whose output goes to a file.
_SHOWN_LINES = 3


@dataclass
class SupervisedProgram:
    """Program under supervision, and the state of its process."""

    program: Program
    # Returns the program for each restart: its options may change until it has started successfully.
    rebuild: Callable[[], Program] | None = None
    tail: deque[str] = field(default_factory=lambda: deque(maxlen=TAIL_LINES))
    process: Process | None = None
    spawned_at: float | None = None
    stopping: bool = False
    task: asyncio.Task[None] | None = None


class Supervisor:
    """Supervisor of programs until ``stop_all``. A program that does not start is tried again with growing pauses.

    ``failed`` completes as soon as one program is given up.

    Args:
        report: file for the programs that do not start; None for no file.
        give_up_after: number of failed starts in a row after which a program is given up; None for no such number.
    """

    def __init__(
        self,
        console: StackConsole,
        records: Records,
        report: Path | None = None,
        give_up_after: int | None = None,
    ) -> None:
        self._console = console
        self._records = records
        self._report, self._give_up_after = report, give_up_after
        self._failing = FailingParts()
        self._programs: dict[str, SupervisedProgram] = {}
        self.failed: asyncio.Future[ServiceFailed] = asyncio.get_running_loop().create_future()

    def pids(self) -> set[int]:
        """Return the pids that the supervisor itself waits for."""
        return {item.process.pid for item in self._programs.values() if item.process}

    def start(self, program: Program, rebuild: Callable[[], Program] | None = None) -> None:
        """Start a program and keep it running.

        Args:
            rebuild: returns the program for each restart; called in a thread.
        """
        supervised = self._programs[program.name] = SupervisedProgram(program, rebuild)
        supervised.task = asyncio.create_task(self._keep_running(supervised), name=program.name)

    async def run_once(self, program: Program, timeout_s: float, *, secret: bool = False) -> str:
        """Run a program to its end and return its standard output.

        Args:
            timeout_s: seconds until the program is killed.
            secret: do not show the standard output.

        Raises:
            ServiceFailed: the program failed or took too long.
        """
        supervised = self._programs[program.name] = SupervisedProgram(program)
        show = partial(self._show, supervised)
        output: list[str] = []
        process: Process | None = None
        try:
            async with (
                asyncio.timeout(timeout_s),
                piped(output.append, *(() if secret else (show,))) as stdout,
                piped(show) as stderr,
            ):
                process = supervised.process = await self._spawn(program, stdout=stdout, stderr=stderr)
                await process.wait()
        except TimeoutError:
            raise ServiceFailed(program.name, f"took longer than {timeout_s:g} s", list(supervised.tail)) from None
        finally:
            if process and process.returncode is None:
                _kill_group(process.pid)
                await process.wait()
            self._records.remove(program.name)
            del self._programs[program.name]
        if process.returncode != 0:
            raise ServiceFailed(program.name, f"ended with exit code {process.returncode}", list(supervised.tail))
        return "\n".join(output)

    async def wait_until(self, name: str, check: Callable[[], bool], timeout_s: float | None) -> None:
        """Wait until a program answers, and report now and then that the wait continues.

        Args:
            check: called repeatedly in a thread; true as soon as the program answers.
            timeout_s: seconds after a start until the program has failed; None waits without an end.

        Raises:
            ServiceFailed: the program did not answer within ``timeout_s`` seconds after its last start.
        """
        loop, supervised = asyncio.get_running_loop(), self._programs[name]
        start, report_at = loop.time(), _PROGRESS_EVERY_S
        log = supervised.program.log
        while timeout_s is None or loop.time() - max(start, supervised.spawned_at or loop.time()) < timeout_s:
            if await asyncio.to_thread(check):
                return
            if (waited_s := loop.time() - start) >= report_at:
                self._console.say(f"waiting for {name} ({waited_s:.0f} s)" + (f"; its log: {log}" if log else ""))
                report_at += min(max(_PROGRESS_EVERY_S, waited_s / 2), _RARE_PROGRESS_S)
            await asyncio.sleep(_CHECK_EVERY_S)
        raise ServiceFailed(name, f"did not answer within {timeout_s:g} s", list(supervised.tail), log)

    async def stop(self, name: str) -> None:
        """Ask a program to end, kill its process group after the timeout, and remove it."""
        supervised = self._programs.get(name)
        if supervised is None:
            return
        supervised.stopping = True
        if supervised.process and supervised.process.returncode is None:
            await self._terminate(supervised.program, supervised.process)
            if supervised.task:
                # Give the task time to show the last lines.
                await asyncio.wait([supervised.task], timeout=_LAST_LINES_S)
        if supervised.task:
            supervised.task.cancel()
            # An error of one program must not keep the others from being stopped.
            await asyncio.gather(supervised.task, return_exceptions=True)
        self._programs.pop(name, None)
        self._records.remove(name)

    async def stop_all(self) -> None:
        """Stop all programs in reverse order of their start."""
        for name in reversed(list(self._programs)):
            await self.stop(name)

    def kill_all(self) -> None:
        """Kill all programs immediately."""
        for supervised in self._programs.values():
            supervised.stopping = True
            if supervised.process and supervised.process.returncode is None:
                _kill_group(supervised.process.pid)

    async def _terminate(self, program: Program, process: Process) -> None:
        with suppress(ProcessLookupError):
            process.send_signal(program.stop_signal)
        try:
            async with asyncio.timeout(program.stop_timeout_s):
                await process.wait()
        except TimeoutError:
            self._console.say(f"{program.name} did not stop within {program.stop_timeout_s:g} s; killing it")
        # Kill the group after a clean end too: it may contain child processes.
        _kill_group(process.pid)
        try:
            async with asyncio.timeout(_KILL_WAIT_S):
                await process.wait()
        except TimeoutError:
            self._console.say(f"{program.name} (pid {process.pid}) cannot be killed: it waits in the kernel")

    async def _keep_running(self, supervised: SupervisedProgram) -> None:
        loop = asyncio.get_running_loop()
        name, failed_starts = supervised.program.name, 0
        while True:
            how = await self._run_to_end(supervised)
            if supervised.stopping:
                return
            lived_s = 0.0 if supervised.spawned_at is None else loop.time() - supervised.spawned_at
            supervised.spawned_at = None
            decision = decide_restart(failed_starts, lived_s, self._give_up_after)
            if isinstance(decision, GiveUp):
                reason = f"ended {decision.failed_starts} times in a row right after its start, {how}"
                self._fail(ServiceFailed(name, reason, list(supervised.tail), supervised.program.log))
                return
            failed_starts = decision.failed_starts
            self._note_failure(supervised, failed_starts)
            self._say_restart(supervised, how, decision.after_s)
            await asyncio.sleep(decision.after_s)

    def _say_restart(self, supervised: SupervisedProgram, how: str, after_s: float) -> None:
        text = f"{supervised.program.name} ended {how}; restarting it in {after_s:g} s"
        log = supervised.program.log
        self._console.say(f"{text}; its log: {log}" if log else text)
        # Without this, the reason would only be in that file.
        for line in list(supervised.tail)[-_SHOWN_LINES:] if log else ():
            self._console.say(f"    {line}")

    async def _run_to_end(self, supervised: SupervisedProgram) -> str:
        """Start a program, wait for its end, and return how it ended."""
        loop = asyncio.get_running_loop()
        supervised.spawned_at = None
        try:
            if supervised.rebuild and supervised.process:
                supervised.program = await asyncio.to_thread(supervised.rebuild)
            async with piped(partial(self._show, supervised)) as output:
                process = supervised.process = await self._spawn(supervised.program, stdout=output, stderr=output)
                supervised.spawned_at = loop.time()
                stable = loop.call_later(STABLE_AFTER_S, self._note_start, supervised.program.name)
                try:
                    code = await process.wait()
                finally:
                    stable.cancel()
        except (OSError, StackError) as error:
            # A full disk or a lack of descriptors must not end the restarts.
            return f"before its start: {error}"
        self._records.remove(supervised.program.name)
        return f"with {_describe_exit(code)}"

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
        self._record(program, process)
        return process

    def _record(self, program: Program, process: Process) -> None:
        """Record a process; if the disk is full, try again later, because the process runs without its record, too."""
        if process.returncode is not None:
            return
        try:
            self._records.write(program.name, process.pid, program.stop_signal)
        except OSError as error:
            self._console.say(f"{program.name} cannot be recorded in its file: {error.strerror}")
            asyncio.get_running_loop().call_later(_RECORD_AGAIN_S, self._record, program, process)

    def _note_failure(self, supervised: SupervisedProgram, failed_starts: int) -> None:
        name = supervised.program.name
        if failed_starts:
            self._failing.count(name, failed_starts)
        if failed_starts == _FAILING_STARTS:
            self._console.say(f"{name} does not start; its last lines:")
            for line in supervised.tail:
                self._console.say(f"    {line}")
        if failed_starts >= _FAILING_STARTS:
            self._write_report()

    def _note_start(self, name: str) -> None:
        if self._failing.end(name):
            self._write_report()

    def _write_report(self) -> None:
        if self._report is None:
            return
        parts = [part for part in self._failing.all() if part.failed_starts >= _FAILING_STARTS]
        try:
            write_private(self._report, report_text(parts), _READABLE)
        except OSError as error:
            self._console.say(f"{self._report} cannot be written: {error.strerror}")

    def _show(self, supervised: SupervisedProgram, line: str) -> None:
        supervised.tail.append(line)
        if log := supervised.program.log:
            with log.open("a", encoding="utf-8") as file:
                file.write(f"{line}\n")
        else:
            self._console.line(supervised.program.name, line)

    def _fail(self, error: ServiceFailed) -> None:
        if not self.failed.done():
            self.failed.set_result(error)


def _describe_exit(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    # Most real-time signals have no name.
    names = {int(number): number.name for number in signal.Signals}
    return f"signal {names.get(-code, -code)}"


def _kill_group(leader: int) -> None:
    """Kill the process group that ``leader`` leads."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)
