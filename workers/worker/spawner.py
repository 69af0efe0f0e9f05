"""Spawner of runners: it counts the shard's slots and keeps one spare runner ready."""

from __future__ import annotations

import json
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Collection
from contextlib import closing, suppress
from pathlib import Path

from myctobot.contract.names import attempt_name, parse_attempt_name
from workers.config import ShardConfig
from workers.git.cleanup import remove_tree
from workers.runner_registry import Registry, RunnerEntry
from workers.sandbox import process_tree
from workers.sandbox.isolation import read_problem
from workers.sandbox.limits import sweep_groups
from workers.worker.runner_process import ForkServerClient, RunnerProcess

log = logging.getLogger(__name__)

# A spare reads certificates. Right after a job's start, this would slow down the agent.
_SPARE_AFTER_S = 3.0
_POLL_S = 0.5
_END_TIMEOUT_S = 10.0
# States of a process that a signal or a debugger stopped; it may never continue.
_STOPPED = frozenset("Tt")
# States of a process whose first thread has ended.
_ENDED = frozenset("ZXx")


class Spawner:
    """Starts the runners of a shard and waits for them.

    Args:
        config: configuration of the shard.
        config_path: file of the configuration; runners read it themselves.
    """

    def __init__(self, config: ShardConfig, config_path: Path) -> None:
        self._config, self._config_path = config, config_path
        self._registry = Registry(config.run_path)
        self._server = ForkServerClient(config.executor, config_path)
        self._lock = threading.Lock()
        # Held while a spare starts, so that there is only one. The other lock must not wait for imports.
        self._spare_lock = threading.Lock()
        self._spare: RunnerProcess | None = None
        self._spare_config = 0
        self._closed = threading.Event()
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
            with closing(self._start(job_id, attempt, slot)) as runner:
                code = self._await_end(runner)
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

    def _await_end(self, runner: RunnerProcess) -> int:
        """Wait until a runner has ended, and return its exit code.

        A runner is gone when its main thread is: another thread may hang in the kernel forever, such as in a read of a
        dead disk, and then the process cannot be reaped.
        """
        while not runner.wait(_POLL_S):
            info = process_tree.read(runner.pid)
            # The other threads of a killed runner may end a moment later.
            if info is not None and info.state in _ENDED and not runner.wait(_POLL_S):
                log.error("the runner with pid %s is dead but cannot be reaped", runner.pid)
                return -signal.SIGKILL
            if info is not None and info.state in _STOPPED and self._stopping.is_set():
                log.warning("the runner with pid %s is stopped, so the worker ends without it", runner.pid)
                return 0
        return runner.exit_code()

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

    def _start(self, job_id: str, attempt: int, slot: int) -> RunnerProcess:
        order = json.dumps({"job_id": job_id, "attempt": attempt, "slot": slot}).encode() + b"\n"
        runner = self._take_spare() or self._server.spawn()
        try:
            runner.send(order)
        except BrokenPipeError:
            # The spare died after it was checked.
            runner.close()
            runner = self._server.spawn()
            runner.send(order)
        threading.Timer(_SPARE_AFTER_S, self.keep_spare).start()
        return runner

    def _take_spare(self) -> RunnerProcess | None:
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
        """Start a spare runner if there is none; it loads everything before there is a job."""
        with self._spare_lock:
            with self._lock:
                if self._closed.is_set() or (self._spare is not None and not self._spare.wait(0)):
                    return
                dead, self._spare = self._spare, None
            if dead is not None:
                dead.close()
            config = self._config_path.stat().st_mtime_ns
            spare = self._server.spawn()
            with self._lock:
                if not self._closed.is_set():
                    self._spare, self._spare_config = spare, config
                    return
        _end_spare(spare)

    def close(self) -> None:
        """End the spare; runners with an attempt continue."""
        with self._lock:
            spare, self._spare = self._spare, None
            self._closed.set()
        if spare is not None:
            _end_spare(spare)
        self._server.close()


def _end_spare(spare: RunnerProcess) -> None:
    """End a spare by closing its input without an order."""
    spare.end_input()
    if not spare.wait(_END_TIMEOUT_S):
        # It has no attempt, so nothing is lost.
        spare.kill()
        spare.wait(_END_TIMEOUT_S)
    spare.close()
