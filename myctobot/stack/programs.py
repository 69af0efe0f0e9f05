"""What to start, and how: one value per process of the stack."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from myctobot.stack import launch

_LAUNCH = str(Path(launch.__file__).resolve())


@dataclass(frozen=True)
class DropRoot:
    """Run as another user although root starts it; ``search`` leaves the right to enter root's folders."""

    uid: int
    search: bool = False


@dataclass(frozen=True)
class Program:
    name: str
    argv: tuple[str, ...]
    # Environments hold passwords.
    env: Mapping[str, str] = field(repr=False)
    cwd: Path
    stop_signal: signal.Signals = signal.SIGTERM
    stop_timeout_s: float = 10
    pass_fds: tuple[int, ...] = ()
    drop_root: DropRoot | None = None
    # The user that it takes itself for, when its own has no name.
    appear_as: int | None = None
    # Where its output goes instead of the terminal.
    log: Path | None = None

    def command(self) -> list[str]:
        """The command line with the launcher before it; only this process may start it."""
        options = ["--parent", str(os.getpid()), "--death-signal", str(int(self.stop_signal))]
        if self.drop_root:
            options += ["--uid", str(self.drop_root.uid)]
            options += ["--search"] if self.drop_root.search else []
        if self.appear_as is not None:
            options += ["--appear-as", str(self.appear_as)]
        return [sys.executable, "-IS", _LAUNCH, *options, "--", *self.argv]

    def popen(self, output: IO[bytes] | int) -> subprocess.Popen[bytes]:
        """Start it in a session of its own, so that a terminal's Ctrl-C reaches the supervisor alone.

        Call it from the main thread: the kernel ties the child to the thread that made it.
        """
        return subprocess.Popen(
            self.command(),
            env=dict(self.env),
            cwd=self.cwd,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            pass_fds=self.pass_fds,
            start_new_session=True,
        )
