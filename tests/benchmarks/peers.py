"""Bare processes that run along with a stack, as a comparison."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from celery import Celery
from kombu import Exchange, Queue

from tests.benchmarks.bare_app import BROKER_VARIABLE, QUEUE, SLOTS, TASK
from tests.benchmarks.memory import Memory, memory_of
from tests.benchmarks.shard import wait_for
from tests.stacks import RunningStack

CHECKOUT = Path(__file__).resolve().parent.parent.parent
LIBRARY = ("-m", "tests.benchmarks.bare_app")
COMMAND = (
    "-m", "celery", "-A", "tests.benchmarks.bare_app", "worker", "--pool=threads", f"--concurrency={SLOTS}",
    "--loglevel=INFO", "--without-gossip", "--without-mingle", "--without-heartbeat",
)  # fmt: skip
# A runner needs at least the agent's SDK and a client for the control plane.
IMPORTS = "import claude_agent_sdk, httpx; print('all is ready.', flush=True); input()"
_READY = b" ready."
_SETTLE_S = 2


@dataclass(frozen=True)
class Peer:
    pid: int
    folder: Path

    def memory_at_rest(self) -> Memory:
        """Measure the process shortly after it has begun to wait."""
        time.sleep(_SETTLE_S)
        return memory_of(self.pid)


@contextmanager
def peer(arguments: Sequence[str], environment: Mapping[str, str]) -> Iterator[Peer]:
    """Start a Python process, wait until it reports that it is ready, and end it after the block."""
    with TemporaryDirectory(prefix="benchmark-peer-") as folder:
        log = Path(folder, "log")
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=CHECKOUT,
                env={"PATH": os.environ["PATH"], **environment},
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        try:
            wait_for(lambda: _READY in log.read_bytes() or None, f"{arguments[:2]} to be ready")
            yield Peer(process.pid, Path(folder))
        finally:
            process.terminate()
            process.wait(timeout=20)


def broker_url(stack: RunningStack) -> str:
    """Return the URL of the stack's broker, from the environment file of the stack."""
    lines = (stack.home / "env").read_text().splitlines()
    return next(line for line in lines if line.startswith("REDIS_URL=")).partition("=")[2]


@contextmanager
def bare_imports() -> Iterator[Peer]:
    """Start a process that imports the modules that every runner needs, with a runner's memory settings."""
    with peer(("-c", IMPORTS), {"MALLOC_ARENA_MAX": "2"}) as process:
        yield process


@contextmanager
def bare_celery(stack: RunningStack, arguments: Sequence[str] = LIBRARY) -> Iterator[Peer]:
    """Start a bare Celery worker on the stack's broker."""
    with peer(arguments, {BROKER_VARIABLE: broker_url(stack)}) as worker:
        yield worker


def bare_task_sender(stack: RunningStack) -> Callable[[str], None]:
    """Return a function that sends the bare worker its task."""
    app = Celery("bare-client", broker=broker_url(stack), set_as_current=False)
    queue = Queue(QUEUE, exchange=Exchange("", type="direct"), routing_key=QUEUE, no_declare=True)

    def delay(report: str) -> None:
        app.send_task(TASK, args=[report], queue=queue, ignore_result=True)  # type: ignore[arg-type]  # takes a Queue

    return delay
