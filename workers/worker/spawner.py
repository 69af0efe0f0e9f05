"""Spawner of runners: it counts the shard's slots and keeps one spare runner ready."""

from __future__ import annotations

import json
import logging
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path

from myctobot.contract.names import attempt_name, parse_attempt_name
from workers.config import ShardConfig
from workers.git.cleanup import remove_tree
from workers.runner_registry import Registry, RunnerEntry, process_start_time
from workers.sandbox import process_tree
from workers.sandbox.isolation import read_problem
from workers.sandbox.limits import sweep_groups

log = logging.getLogger(__name__)

# A spare needs over a second to import. Right after a job's start, this would slow down the agent.
_SPARE_AFTER_S = 3.0
_POLL_S = 0.5
# States of a process that a signal or a debugger stopped; it may never continue.
_STOPPED = frozenset("Tt")
# States of a process whose first thread has ended.
_ENDED = frozenset("ZXx")
# Only these variables of the worker reach a runner, and so an agent.
_ENVIRONMENT = ("PATH", "LANG", "TZ", "TMPDIR", "PYTHONDONTWRITEBYTECODE")


def runner_environment() -> dict[str, str]:
    """Return the environment of a runner, which is built from an allow-list."""
    found = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    # Fewer arenas use less memory, and a runner has few threads.
    return {"PATH": "/usr/local/bin:/usr/bin:/bin", "PYTHONUNBUFFERED": "1", "MALLOC_ARENA_MAX": "2", **found}


class Spawner:
    """Starts the runners of a shard and waits for them.

    Args:
        config: configuration of the shard.
        config_path: file of the configuration; runners read it themselves.
    """

    def __init__(self, config: ShardConfig, config_path: Path) -> None:
        self._config, self._config_path = config, config_path
        self._registry = Registry(config.run_path)
        self._lock = threading.Lock()
        self._spare: subprocess.Popen[bytes] | None = None
        self._spare_config = 0
        self._closed = False
        self._stopping = threading.Event()
        self._slots: set[int] = set()
        # Names of runners that were found dead, and of those of them whose leftovers are gone.
        self._dead: set[str] = set()
        self._unreported: set[str] = set()
        # Called when there is a runner to report as ended.
        self.on_ended: Callable[[], None] = lambda: None

    def adopt(self) -> list[RunnerEntry]:
        """Find the runners that an earlier worker of this shard started, and occupy their slots."""
        found = self._live()
        with self._lock:
            self._slots.update(entry.slot for entry in found)
            dead = tuple(self._dead)
        self.sweep(older_than_s=0)
        for name in dead:
            self._conclude(name)
        return found

    def _live(self) -> list[RunnerEntry]:
        """Return the live runners, and remember the dead ones."""
        live, dead = self._registry.scan()
        with self._lock:
            self._dead.update(entry.name for entry in dead)
        return live

    def _conclude(self, name: str) -> None:
        """Report a runner as ended if it was found dead; nothing of it is left, so its job may run again."""
        live = {entry.name for entry in self._live()}
        with self._lock:
            if name not in self._dead or name in live:
                return
            self._dead.discard(name)
            self._unreported.add(name)
        log.warning("the runner of %s ended without a report", name)
        self.on_ended()

    def ended(self) -> list[str]:
        """Return the names of the runners that ended without a report and are not reported yet."""
        with self._lock:
            return sorted(self._unreported)[: self._config.max_concurrent_jobs]

    def forget_ended(self, names: Collection[str]) -> None:
        """Forget runners that the control plane knows to have ended."""
        with self._lock:
            self._unreported.difference_update(names)

    def sweep(self, older_than_s: float) -> None:
        """Remove the directories of dead runners, because a workspace may contain a customer's code.

        Args:
            older_than_s: keeps directories that were changed within this time.
        """
        root = self._config.workspace_path
        # An operator may keep other files there, which must stay.
        directories = [path for path in root.glob("job_*.*") if parse_attempt_name(path.name)]
        # List directories before runners. In the other order, the directory of a new runner would look dead.
        live = {entry.name for entry in self._live()}
        for directory in directories:
            try:
                age_s = time.time() - directory.lstat().st_mtime
                if directory.name not in live and age_s >= older_than_s and not directory.is_symlink():
                    log.info("removing the leftovers of %s", directory.name)
                    remove_tree(directory)
            except FileNotFoundError:
                continue
            except OSError as error:
                log.error("the leftovers of %s cannot be removed: %s", directory.name, error)

    def await_adopted(self, entry: RunnerEntry) -> None:
        """Wait until an adopted runner has ended, and release its slot."""
        while entry.is_alive():
            time.sleep(_POLL_S)
        # Its pid may already belong to another child.
        if process_start_time(entry.pid) is None:
            # After a reload, earlier runners are still children of this process; no zombie must stay.
            with suppress(ChildProcessError):
                os.waitpid(entry.pid, os.WNOHANG)
        try:
            self._remove_leftovers(entry.name)
            self._conclude(entry.name)
        finally:
            self._release_slot(entry.slot)

    @property
    def is_starting(self) -> bool:
        """Tell whether a message was taken whose runner has not begun its attempt."""
        live = self._live()
        with self._lock:
            return len(self._slots) > len(live)

    def running(self) -> list[RunnerEntry]:
        return self._live()

    def wake(self, job_id: str) -> int:
        """Make the runners of a job call the control plane at once; return their number."""
        found = [entry for entry in self._live() if entry.job_id == job_id]
        for entry in found:
            with suppress(ProcessLookupError):
                os.kill(entry.pid, signal.SIGUSR1)
        return len(found)

    def run(self, job_id: str, attempt: int) -> int:
        """Run one attempt in a new runner, wait for its end and return its exit code.

        While the shard's sandbox fails, no runner starts; the control plane then sends the job to another shard.

        Raises:
            ValueError: the values do not name an attempt.
            RuntimeError: every slot is occupied, which dispatch prevents.
        """
        name = attempt_name(job_id, attempt)
        if problem := read_problem(self._config.run_path):
            log.error("%s is not claimed, because no sandbox can be started: %s", name, problem)
            return 1
        slot = self._reserve_slot(name)
        try:
            code = self._await_end(self._start(job_id, attempt, slot))
            self._remove_leftovers(name)
            self._conclude(name)
        finally:
            self._release_slot(slot)
        if code:
            log.error("the runner of %s ended with %s", name, code)
        return code

    def stop_waiting(self) -> None:
        """Wait no more for runners that make no progress, because the worker ends; the next worker adopts them."""
        self._stopping.set()

    def _await_end(self, runner: subprocess.Popen[bytes]) -> int:
        """Wait until a runner has ended, and return its exit code.

        A runner is gone when its main thread is: another thread may hang in the kernel forever, such as in a read of a
        dead disk, and then the process cannot be reaped.
        """
        try:
            handle = os.pidfd_open(runner.pid)
        except OSError as error:
            log.warning("the runner with pid %s cannot be watched: %s", runner.pid, error.strerror)
            return runner.wait()
        try:
            poll = select.poll()
            poll.register(handle, select.POLLIN)
            while not poll.poll(_POLL_S * 1000):
                info = process_tree.read(runner.pid)
                if info is None or info.state in _ENDED:
                    log.error("the runner with pid %s is dead but cannot be reaped", runner.pid)
                    return runner.poll() or -signal.SIGKILL
                if self._stopping.is_set() and info.state in _STOPPED:
                    log.warning("the runner with pid %s is stopped, so the worker ends without it", runner.pid)
                    return 0
        finally:
            os.close(handle)
        return runner.wait()

    def _reserve_slot(self, name: str) -> int:
        with self._lock:
            slot = next((n for n in range(self._config.max_concurrent_jobs) if n not in self._slots), None)
            if slot is None:
                raise RuntimeError(f"no free slot for {name}")
            self._slots.add(slot)
        return slot

    def _release_slot(self, slot: int) -> None:
        with self._lock:
            self._slots.discard(slot)

    def _start(self, job_id: str, attempt: int, slot: int) -> subprocess.Popen[bytes]:
        order = json.dumps({"job_id": job_id, "attempt": attempt, "slot": slot}).encode() + b"\n"
        runner = self._take_spare() or self._spawn()
        try:
            _send_order(runner, order)
        except BrokenPipeError:
            # The spare died after it was checked.
            runner.wait()
            runner = self._spawn()
            _send_order(runner, order)
        threading.Timer(_SPARE_AFTER_S, self.keep_spare).start()
        return runner

    def _take_spare(self) -> subprocess.Popen[bytes] | None:
        with self._lock:
            spare, self._spare = self._spare, None
            fresh = self._spare_config == self._config_path.stat().st_mtime_ns
        if spare is not None and not fresh:
            # The spare has read an older version of the configuration.
            _end_spare(spare)
            return None
        return spare

    def _remove_leftovers(self, name: str) -> None:
        """Remove the directory and control groups that a killed runner could not remove itself."""
        leftover = self._config.workspace_path / name
        if leftover.exists() and name not in {entry.name for entry in self._live()}:
            try:
                remove_tree(leftover)
            except OSError as error:
                log.error("the leftovers of %s cannot be removed: %s", name, error)
        sweep_groups()

    def keep_spare(self) -> None:
        """Start a spare runner if there is none; it imports everything before there is a job."""
        with self._lock:
            if not self._closed and (self._spare is None or self._spare.poll() is not None):
                self._spare_config = self._config_path.stat().st_mtime_ns
                self._spare = self._spawn()

    def _spawn(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "workers.runner", str(self._config_path)],
            stdin=subprocess.PIPE,
            cwd=Path(__file__).resolve().parent.parent.parent,
            env=runner_environment(),
            # In its own session, the runner gets no signals of the worker's group and survives the worker's end.
            start_new_session=True,
        )

    def close(self) -> None:
        """End the spare; runners with an attempt continue."""
        with self._lock:
            spare, self._spare = self._spare, None
            self._closed = True
        if spare is not None:
            _end_spare(spare)


def _send_order(runner: subprocess.Popen[bytes], order: bytes) -> None:
    assert runner.stdin is not None  # noqa: S101  # _spawn opens it
    with runner.stdin as stdin:
        stdin.write(order)


def _end_spare(spare: subprocess.Popen[bytes]) -> None:
    """End a spare by closing its input without an order."""
    assert spare.stdin is not None  # noqa: S101  # _spawn opens it
    spare.stdin.close()
    try:
        spare.wait(timeout=10)
    except subprocess.TimeoutExpired:
        # It has no attempt, so nothing is lost.
        spare.kill()
        with suppress(subprocess.TimeoutExpired):
            spare.wait(timeout=10)
