"""Embedded stack of the demo, which is separate from another stack in this checkout."""

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
from myctobot.demo.folder import repositories_in
from myctobot.stack.home import read_json
from myctobot.stack.plan import CHECKOUT
from myctobot.stack.programs import Program

START_TIMEOUT_S: Final = 120
STOP_TIMEOUT_S: Final = 60
LAST_LINES: Final = 20
_POLL_S: Final = 0.1


@dataclass(frozen=True)
class StackAccess:
    """URL of the stack, and an API key for it."""

    url: str
    api_key: str = field(repr=False)


class DemoStack:
    """Child process ``manage.py up`` in a session of its own: Ctrl-C reaches only the demo, which stops the stack.

    Args:
        folder: folder of the demo, which contains the stack's home, log and ready file.
        environ: environment of the stack.
        allow_unsandboxed: passes --allow-unsandboxed.
    """

    def __init__(self, folder: Path, environ: Mapping[str, str], *, allow_unsandboxed: bool = False) -> None:
        self._flags = ("--allow-unsandboxed",) if allow_unsandboxed else ()
        self.log = folder / "stack.log"
        self._ready = folder / "ready.json"
        self._environ = {
            **environ,
            "MYCTOBOT_HOME": str(folder / "home"),
            "REPO_FILE_ROOTS": str(repositories_in(folder)),
        }
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the stack without waiting; ``wait_ready`` waits."""
        self._ready.unlink(missing_ok=True)
        ports = ("--web-port", "0", "--gateway-port", "0")
        # A demo that cannot start says so at once.
        flags = ("--give-up-after", "5", *self._flags)
        argv = (sys.executable, "manage.py", "up", *ports, "--ready-file", str(self._ready), *flags)
        # The stack prints a password and a key into its log.
        self.log.touch(mode=0o600)
        with self.log.open("wb") as output:
            self._process = Program("stack", argv, self._environ, CHECKOUT).popen(output.fileno())

    def wait_ready(self) -> StackAccess:
        """Wait until the stack answers.

        Raises:
            DemoFailed: the stack ended, or did not answer in time.
        """
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._ready.exists():
            if self._process is None or self._process.poll() is not None:
                raise DemoFailed("The stack did not start.")
            if time.monotonic() > deadline:
                raise DemoFailed(f"The stack did not answer within {START_TIMEOUT_S} s.")
            time.sleep(_POLL_S)
        ready = read_json(self._ready)
        return StackAccess(ready["urls"]["web"], ready["api_key"])

    def stop(self) -> bool:
        """Stop the stack and all its processes; a second Ctrl-C kills them.

        Returns:
            True if the stack ended normally.
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
                # On a second signal, the stack kills its processes without waiting.
                process.terminate()
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                return False

    def last_lines(self) -> list[str]:
        """Return the last lines of its log, without the box with the password and the key."""
        try:
            with self.log.open(errors="replace") as lines:
                return [line.rstrip("\n") for line in deque(filter(_is_log, lines), LAST_LINES)]
        except FileNotFoundError:
            return []


def _is_log(line: str) -> bool:
    return bool(line.strip()) and not line.startswith(("┌", "│", "└"))


@contextmanager
def running(stack: DemoStack) -> Iterator[DemoStack]:
    """Start the stack and stop it when the block ends or fails.

    Raises:
        DemoFailed: the stack had to be killed, or failed while it stopped.
    """
    try:
        stack.start()
        yield stack
    finally:
        ended_well = stack.stop()
    if not ended_well:
        raise DemoFailed(f"The stack did not stop normally; see its log {stack.log}.")
