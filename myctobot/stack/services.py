"""Base class of the embedded database and broker.

With the supervisor: prepare(), supervise program(), wait for is_ready(), finish(), url.
Without it:          start() -> url, stop().
"""

from __future__ import annotations

import subprocess
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

from myctobot.stack.errors import ServiceFailed
from myctobot.stack.home import Home
from myctobot.stack.processes import Records
from myctobot.stack.programs import Program

START_TIMEOUT_S = 60
TAIL_LINES = 15


def tail(path: Path, lines: int = TAIL_LINES) -> list[str]:
    """Return the last lines of a log file; none if the file does not exist."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:]
    except FileNotFoundError:
        return []


class Service(ABC):
    """Server below one home. Only one process at a time may use an instance for that home."""

    name: ClassVar[str]

    def __init__(self, home: Path) -> None:
        self.home = Home(home)
        self._process: tuple[subprocess.Popen[bytes], Program] | None = None
        self._records = Records(self.home.run)

    @property
    @abstractmethod
    def url(self) -> str:
        """URL of the server, known after ``prepare``."""

    @abstractmethod
    def prepare(self) -> None:
        """Stop leftovers of an earlier run, and create data and configuration. This may take seconds."""

    @abstractmethod
    def program(self) -> Program: ...

    def program_again(self) -> Program:
        """Return the program for a restart after a crash. This may take seconds."""
        return self.program()

    @abstractmethod
    def is_ready(self) -> bool:
        """Check that the server answers now."""

    def finish(self) -> None:  # noqa: B027 - most services need nothing here
        """Complete the setup that needs a server that answers."""

    def clean_up(self) -> None:  # noqa: B027 - most services leave nothing
        """Remove what must not remain after the server has ended."""

    @property
    def log(self) -> Path:
        return self.home.log / f"{self.name}.log"

    def start(self) -> str:
        """Run the server until ``stop`` or until this process ends for any reason; return its URL.

        Raises:
            ServiceFailed: the server ended, or did not answer within 60 s; the message has its last log lines.
        """
        self.home.prepare()
        self._records.stop_leftovers(self.name)
        try:
            self.prepare()
            self._start_program(self.program())
            self.finish()
        except BaseException:
            self.stop()
            raise
        return self.url

    def _start_program(self, program: Program) -> None:
        with self.log.open("wb") as output:
            process = program.popen(output)
        self._process = (process, program)
        self._records.write(self.name, process.pid, program.stop_signal)
        self._wait_ready(process)

    def stop(self) -> None:
        """Stop the server and wait for its end; do nothing if it does not run."""
        if self._process:
            self._terminate(*self._process)
            self._process = None
            self._records.remove(self.name)
        self.clean_up()

    @staticmethod
    def _terminate(process: subprocess.Popen[bytes], program: Program) -> None:
        process.send_signal(program.stop_signal)
        try:
            process.wait(program.stop_timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    @property
    def pid(self) -> int | None:
        """Pid of the server, if ``start`` started it."""
        return self._process[0].pid if self._process else None

    def _wait_ready(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self.is_ready():
            if process.poll() is not None:
                raise ServiceFailed(self.name, f"ended with exit code {process.returncode}", tail(self.log))
            if time.monotonic() > deadline:
                raise ServiceFailed(self.name, f"did not answer within {START_TIMEOUT_S} s", tail(self.log))
            time.sleep(0.05)
