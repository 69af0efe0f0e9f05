"""Starts the embedded stack for the demo, apart from one that may be running in this checkout, and stops it."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from myctobot.demo.errors import DemoFailed
from myctobot.stack.home import read_json
from myctobot.stack.plan import CHECKOUT
from myctobot.stack.programs import Program

START_TIMEOUT_S: Final = 120
STOP_TIMEOUT_S: Final = 60
LAST_LINES: Final = 20
_POLL_S: Final = 0.1


@dataclass(frozen=True)
class Access:
    """Where the stack answers, and the key that it takes."""

    url: str
    api_key: str = field(repr=False)


class DemoStack:
    """``manage.py up`` as a child, in a session of its own: Ctrl-C reaches the demo, which then stops the stack.

    Args:
        folder: of the demo; the stack's home, log and ready file are in it.
        environ: all that the stack is started with.
    """

    def __init__(self, folder: Path, environ: Mapping[str, str]) -> None:
        self.log = folder / "stack.log"
        self._ready = folder / "ready.json"
        self._environ = {**environ, "MYCTOBOT_HOME": str(folder / "home")}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and go on; ``wait_ready`` waits."""
        self._ready.unlink(missing_ok=True)
        ports = ("--web-port", "0", "--gateway-port", "0")
        argv = (sys.executable, "manage.py", "up", *ports, "--ready-file", str(self._ready))
        # Its banner holds a password and a key.
        self.log.touch(mode=0o600)
        with self.log.open("wb") as output:
            self._process = Program("stack", argv, self._environ, CHECKOUT).popen(output.fileno())

    def wait_ready(self) -> Access:
        """Wait until it answers.

        Raises:
            DemoFailed: it ended, or does not answer in time.
        """
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._ready.exists():
            if self._process is None or self._process.poll() is not None:
                raise DemoFailed("The stack did not start.")
            if time.monotonic() > deadline:
                raise DemoFailed(f"The stack did not answer within {START_TIMEOUT_S} s.")
            time.sleep(_POLL_S)
        ready = read_json(self._ready)
        return Access(ready["urls"]["web"], ready["api_key"])

    def stop(self) -> bool:
        """Stop it with all that it started; an impatient Ctrl-C meanwhile kills instead.

        Returns:
            Whether it ended as it should.
        """
        process = self._process
        if process is None:
            return True
        process.terminate()
        deadline = time.monotonic() + STOP_TIMEOUT_S
        while True:
            try:
                return process.wait(max(0.0, deadline - time.monotonic())) in (0, 128 + signal.SIGINT)
            except KeyboardInterrupt:
                # The stack takes a second signal as: do not wait for anybody.
                process.terminate()
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                return False

    def last_lines(self) -> list[str]:
        """The end of its log, without the banner."""
        try:
            with self.log.open(errors="replace") as lines:
                return [line.rstrip("\n") for line in deque(filter(_is_log, lines), LAST_LINES)]
        except FileNotFoundError:
            return []


def _is_log(line: str) -> bool:
    return bool(line.strip()) and not line.startswith(("┌", "│", "└"))


@contextmanager
def running(stack: DemoStack) -> Iterator[DemoStack]:
    """Start the stack, and stop it whatever happens.

    Raises:
        DemoFailed: it had to be killed, or failed while it stopped.
    """
    try:
        stack.start()
        yield stack
    finally:
        ended_well = stack.stop()
    if not ended_well:
        raise DemoFailed("The stack did not stop as it should; its log says more.")
