"""Real stacks for tests: ``manage.py up`` with a separate home and separate ports."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from myctobot.stack.plan import CHECKOUT
from tests.stack_template import copy_database

# Scripts of the tests. The scripted model chooses one by the conversation.
SCRIPTS = CHECKOUT / "tests" / "fixtures" / "scripts"
READY_TIMEOUT_S = 90
STOP_TIMEOUT_S = 60


@dataclass(frozen=True)
class RunningStack:
    """Running stack: the content of its ``--ready-file`` and its process."""

    home: Path
    web_url: str
    gateway_url: str
    login: str
    password: str = field(repr=False)
    api_key: str = field(repr=False)
    shards: dict[str, Path]
    process: subprocess.Popen[bytes]
    log: Path

    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def pid_of(self, name: str) -> int:
        """Return the pid of a process by name: web, gateway, control, beat, shard-local, redis …"""
        pid: int = json.loads((self.home / "run" / f"{name}.json").read_text())["pid"]
        return pid

    @property
    def shard_api_url(self) -> str:
        """URL that the stack's own shards use for their calls."""
        lines = (self.home / "env").read_text().splitlines()
        return next(line for line in lines if line.startswith("SHARD_API_URL=")).partition("=")[2]

    def web_pids(self) -> list[int]:
        """Return the pids of all web processes."""
        return [self.pid_of(path.stem) for path in sorted((self.home / "run").glob("web*.json"))]

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Stop the stack, and return its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(STOP_TIMEOUT_S)


def up_command(*options: str) -> list[str]:
    return [sys.executable, "manage.py", "up", *options]


def bare_environment(home: Path, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], "MYCTOBOT_HOME": str(home), **(extra or {})}


@contextmanager
def running_stack(
    home: Path,
    *options: str,
    environ: Mapping[str, str] | None = None,
    prefix: Sequence[str] = (),
    cwd: Path = CHECKOUT,
) -> Iterator[RunningStack]:
    """Run a stack within the context.

    Args:
        options: options of ``manage.py up``; the ports are already free ones.
        environ: variables in addition to PATH, HOME and MYCTOBOT_HOME.
        prefix: a command that runs the command, for example as another user.
    """
    ready_file, log = home.parent / f"{home.name}.ready.json", home.parent / f"{home.name}.log"
    # A killed stack does not remove its file.
    ready_file.unlink(missing_ok=True)
    if "DATABASE_URL" not in (environ or {}):
        copy_database(home)
    ports = ("--web-port", "0", "--gateway-port", "0")
    command = [*prefix, *up_command(*ports, "--ready-file", str(ready_file), *options)]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=cwd, env=bare_environment(home, environ), stdout=output, stderr=subprocess.STDOUT
        )
    try:
        yield _describe(home, _wait_ready(process, ready_file, log), process, log)
    finally:
        _end(process)


def _wait_ready(process: subprocess.Popen[bytes], ready_file: Path, log: Path) -> Path:
    deadline = time.monotonic() + READY_TIMEOUT_S
    while not ready_file.exists():
        ended = process.poll() is not None
        if ended or time.monotonic() > deadline:
            state = f"ended with exit code {process.returncode}" if ended else f"is not ready after {READY_TIMEOUT_S} s"
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-40:])
            raise AssertionError(f"the stack {state}:\n{tail}")
        time.sleep(0.1)
    return ready_file


def _describe(home: Path, ready_file: Path, process: subprocess.Popen[bytes], log: Path) -> RunningStack:
    ready = json.loads(ready_file.read_text())
    return RunningStack(
        home=home,
        web_url=ready["urls"]["web"],
        gateway_url=ready["urls"]["gateway"],
        login=ready["login"],
        password=ready["password"],
        api_key=ready["api_key"],
        shards={shard["name"]: Path(shard["config"]) for shard in ready["shards"]},
        process=process,
        log=log,
    )


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise
