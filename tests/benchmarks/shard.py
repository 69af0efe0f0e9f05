"""A stack of our own to measure, and a look at the processes of its shard from outside."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

from tests.acceptance.client import Client
from tests.benchmarks.starts import HZ
from tests.stacks import RunningStack, running_stack
from workers.runner_registry import Registry
from workers.sandbox.process_tree import ProcessInfo
from workers.sandbox.sandbox import process_tree

PLAYS = Path(__file__).resolve().parent.parent / "fixtures" / "plays"
WAIT_S = 60
AGENT = "claude"
# A spare that has run for less than this is still importing, and one that uses the processor within
# this many looks, a tenth of a second apart, is too.
_SPARE_WORK_S = 0.3
_QUIET_LOOKS = 3

T = TypeVar("T")


@contextmanager
def measured_stack() -> Iterator[Client]:
    """Start a stack with one shard in a folder that goes away with it."""
    with (
        TemporaryDirectory(prefix="benchmark-") as folder,
        running_stack(Path(folder, "home"), environ={"GATEWAY_PLAYS": str(PLAYS)}) as stack,
        Client(stack) as client,
    ):
        yield client


def wait_for(look: Callable[[], T | None], what: str, every_s: float = 0.1) -> T:
    """Look until there is something.

    Raises:
        TimeoutError: there was nothing for a minute.
    """
    deadline = time.monotonic() + WAIT_S
    while (found := look()) is None:
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {WAIT_S} s for {what}")
        time.sleep(every_s)
    return found


def command(pid: int) -> list[str]:
    """The arguments of a process, at least one; an empty one when it has ended."""
    try:
        return os.fsdecode(Path(f"/proc/{pid}/cmdline").read_bytes()).split("\0")
    except (FileNotFoundError, ProcessLookupError):
        return [""]


def work_s(pid: int) -> float:
    """The seconds of processor time that a process has used."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return (int(fields[11]) + int(fields[12])) / HZ


class Shard:
    """The processes of a stack's shard."""

    def __init__(self, stack: RunningStack) -> None:
        self.worker = stack.pid_of("shard-local")
        self._registry = Registry(stack.home / "shards" / "local" / "run")

    def runners(self) -> list[int]:
        """The runners at work."""
        return [entry.pid for entry in self._registry.live()]

    def spare(self) -> int | None:
        """The runner that waits for a job."""
        at_work = self.runners()
        children = [info.pid for info in process_tree.snapshot().values() if info.parent == self.worker and info.alive]
        spares = [pid for pid in children if "workers.runner.runner" in command(pid) and pid not in at_work]
        return spares[0] if len(spares) == 1 else None

    def wait_idle(self) -> None:
        wait_for(lambda: None if self.runners() else True, "the shard to be idle")

    def wait_spare(self) -> int:
        """Return once no job runs and a spare has imported all it needs and waits."""
        self.wait_idle()
        return wait_for(self._waiting_spare, "a warm spare")

    def _waiting_spare(self) -> int | None:
        spare = self.spare()
        if spare is None or work_s(spare) < _SPARE_WORK_S:
            return None
        seen = set()
        for _ in range(_QUIET_LOOKS):
            info = process_tree.read(spare)
            seen.add((info.state if info else "", work_s(spare)))
            time.sleep(0.1)
        asleep = len(seen) == 1 and next(iter(seen))[0] == "S"
        return spare if asleep else None

    def end_spare(self) -> None:
        """Leave the shard without a spare, so that the next job waits for a runner's start."""
        spare = self.wait_spare()
        os.kill(spare, signal.SIGKILL)
        wait_for(lambda: True if self.spare() is None else None, "the spare's end")

    def agent(self) -> ProcessInfo | None:
        """The first process of the agent's own, inside its sandbox."""
        found = [info for info in self.tree() if Path(command(info.pid)[0]).name == AGENT]
        return min(found, key=lambda info: info.started, default=None)

    def tree(self) -> Sequence[ProcessInfo]:
        """All that the runners at work have started."""
        processes = process_tree.snapshot()
        runners = set(self.runners())
        return [processes[pid] for pid in process_tree.descendants(processes, runners) - runners]
