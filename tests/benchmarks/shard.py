"""Stack for a measurement, and the processes of its shard."""

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
from tests.fixtures.forked import fork_servers
from tests.stacks import RunningStack, running_stack
from workers.runner_registry import Registry
from workers.sandbox import process_tree
from workers.sandbox.process_tree import ProcessInfo

SCRIPTS = Path(__file__).resolve().parent.parent / "fixtures" / "scripts"
WAIT_S = 60
AGENT = "claude"
# A spare that uses the processor during these samples, a tenth of a second apart, is still loading.
_QUIET_SAMPLES = 3

T = TypeVar("T")


@contextmanager
def measured_stack() -> Iterator[Client]:
    """Start a stack with one shard in a temporary folder; it may use repositories below ``repositories_of``."""
    with TemporaryDirectory(prefix="benchmark-") as folder:
        home = Path(folder).resolve() / "home"
        environ = {"GATEWAY_SCRIPTS": str(SCRIPTS), "REPO_FILE_ROOTS": str(_repositories(home))}
        with running_stack(home, environ=environ) as stack, Client(stack) as client:
            yield client


def repositories_of(client: Client) -> Path:
    """Return the folder of the repositories that the stack may use by ``file://``."""
    return _repositories(client.stack.home)


def _repositories(home: Path) -> Path:
    return home.parent / "repositories"


def wait_for(read: Callable[[], T | None], what: str, every_s: float = 0.1) -> T:
    """Call ``read`` until it returns something other than None, and return that.

    Raises:
        TimeoutError: it returned None for a minute.
    """
    deadline = time.monotonic() + WAIT_S
    while (found := read()) is None:
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {WAIT_S} s for {what}")
        time.sleep(every_s)
    return found


def command(pid: int) -> list[str]:
    """Return the arguments of a process; one empty argument when it has ended."""
    try:
        return os.fsdecode(Path(f"/proc/{pid}/cmdline").read_bytes()).split("\0")
    except (FileNotFoundError, ProcessLookupError):
        return [""]


def processor_s(pid: int) -> float:
    """Return the seconds of processor time that a process has used."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return (int(fields[11]) + int(fields[12])) / HZ


class Shard:
    """Processes of a stack's shard."""

    def __init__(self, stack: RunningStack) -> None:
        self.worker = stack.pid_of("shard-local")
        self._config = stack.shards["local"]
        self._registry = Registry(stack.home / "shards" / "local" / "run")

    def runners(self) -> list[int]:
        """Return the runners that have a job."""
        return [entry.pid for entry in self._registry.live()]

    def spare(self) -> int | None:
        """Return the runner that waits for a job, or None."""
        at_work = self.runners()
        servers = {server.pid for server in fork_servers(self._config)}
        children = [info.pid for info in process_tree.snapshot().values() if info.parent in servers and info.alive]
        spares = [pid for pid in children if pid not in at_work]
        return spares[0] if len(spares) == 1 else None

    def wait_idle(self) -> None:
        wait_for(lambda: None if self.runners() else True, "the shard to be idle")

    def wait_spare(self) -> int:
        """Wait until no job runs and a spare runner has loaded everything; return the spare."""
        self.wait_idle()
        return wait_for(self._waiting_spare, "a warm spare")

    def _waiting_spare(self) -> int | None:
        spare = self.spare()
        if spare is None:
            return None
        seen = set()
        for _ in range(_QUIET_SAMPLES):
            info = process_tree.read(spare)
            seen.add((info.state if info else "", processor_s(spare)))
            time.sleep(0.1)
        asleep = len(seen) == 1 and next(iter(seen))[0] == "S"
        return spare if asleep else None

    def end_spare(self) -> None:
        """Kill the spare, so that the next job waits for a runner's start."""
        spare = self.wait_spare()
        os.kill(spare, signal.SIGKILL)
        wait_for(lambda: True if self.spare() is None else None, "the spare to end")

    def agent(self) -> ProcessInfo | None:
        """Return the oldest process of the agent inside its sandbox, or None."""
        found = [info for info in self.tree() if Path(command(info.pid)[0]).name == AGENT]
        return min(found, key=lambda info: info.started, default=None)

    def tree(self) -> Sequence[ProcessInfo]:
        """Return the processes that the runners with a job have started."""
        processes = process_tree.snapshot()
        runners = set(self.runners())
        return [processes[pid] for pid in process_tree.descendants(processes, runners) - runners]
