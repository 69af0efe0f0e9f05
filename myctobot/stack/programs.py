"""Description of a process of the stack and how to start it."""

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
    """Change of user for a program that root starts.

    Attributes:
        uid: user and group of the program.
        reach: files and folders that it needs, also below folders that only root can enter; they must exist.
    """

    uid: int
    reach: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Program:
    name: str
    argv: tuple[str, ...]
    # Environments contain passwords.
    env: Mapping[str, str] = field(repr=False)
    cwd: Path
    stop_signal: signal.Signals = signal.SIGTERM
    stop_timeout_s: float = 10
    pass_fds: tuple[int, ...] = ()
    drop_root: DropRoot | None = None
    # User id that the program sees as its own, when its real user has no name.
    appear_as: int | None = None
    # File for its output, instead of the terminal.
    log: Path | None = None

    def command(self) -> list[str]:
        """Return the command line behind the launcher; only this process can start it."""
        options = ["--parent", str(os.getpid()), "--death-signal", str(int(self.stop_signal))]
        if self.drop_root:
            options += ["--uid", str(self.drop_root.uid)]
            for path in self.drop_root.reach:
                options += ["--reach", str(path.resolve())]
        if self.appear_as is not None:
            options += ["--appear-as", str(self.appear_as)]
        return [sys.executable, "-IS", _LAUNCH, *options, "--", *self.argv]

    def popen(self, output: IO[bytes] | int) -> subprocess.Popen[bytes]:
        """Start the program in its own session, so that Ctrl-C in the terminal reaches only the supervisor.

        Call this from the main thread: the kernel signals the child when the thread that started it ends.
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
