"""Starts runners, one of them ahead of need, and keeps count of the shard's slots."""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

from workers.config import ShardConfig
from workers.git.cleanup import remove_tree
from workers.runner_registry import Registry, RunnerEntry
from workers.sandbox.limits import sweep_groups

log = logging.getLogger(__name__)

# A spare imports for over a second; right after a job's start that would take the agent's time.
_SPARE_AFTER_S = 3.0
_POLL_S = 0.5
_JOB_DIRECTORY = re.compile(r"job_[a-z0-9]+\.[0-9]+")
# Nothing of the worker's environment reaches a runner, and so an agent, but these.
_ENVIRONMENT = ("PATH", "LANG", "TZ", "TMPDIR", "PYTHONDONTWRITEBYTECODE")


def runner_environment() -> dict[str, str]:
    """The environment of a runner: built from nothing, by an allow-list."""
    found = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    # Fewer arenas keep a runner's memory small: it has few threads.
    return {"PATH": "/usr/local/bin:/usr/bin:/bin", "PYTHONUNBUFFERED": "1", "MALLOC_ARENA_MAX": "2", **found}


class Spawner:
    """Starts and awaits the runners of one shard.

    Args:
        config: the shard's.
        config_path: where it was read from; runners read it themselves.
    """

    def __init__(self, config: ShardConfig, config_path: Path) -> None:
        self._config, self._config_path = config, config_path
        self._registry = Registry(config.run_path)
        self._lock = threading.Lock()
        self._spare: subprocess.Popen[bytes] | None = None
        self._spare_config = 0
        self._closed = False
        self._slots: set[int] = set()

    def adopt(self) -> list[RunnerEntry]:
        """Find the runners that an earlier worker of this shard left running, and count their slots."""
        found = self._registry.live()
        with self._lock:
            self._slots.update(entry.slot for entry in found)
        self.sweep(older_than_s=0)
        return found

    def sweep(self, older_than_s: float) -> None:
        """Remove what dead runners left, as a workspace may hold a customer's code.

        Args:
            older_than_s: spares directories that were changed within this time.
        """
        root = self._config.workspace_path
        # Whatever else an operator keeps there is not ours to remove.
        directories = [path for path in root.glob("job_*.*") if _JOB_DIRECTORY.fullmatch(path.name)]
        # In this order: a directory that is made after the first look is not on the list.
        live = {entry.name for entry in self._registry.live()}
        for directory in directories:
            try:
                age_s = time.time() - directory.lstat().st_mtime
                if directory.name not in live and age_s >= older_than_s and not directory.is_symlink():
                    log.info("removing what was left of %s", directory.name)
                    remove_tree(directory)
            except FileNotFoundError:
                continue
            except OSError as error:
                log.error("what was left of %s cannot be removed: %s", directory.name, error)

    def await_adopted(self, entry: RunnerEntry) -> None:
        """Return when an adopted runner has ended, and free its slot."""
        while entry.is_alive():
            time.sleep(_POLL_S)
        # Of a worker that began anew the runners are still the children, and nobody else waits for them.
        with suppress(ChildProcessError):
            os.waitpid(entry.pid, 0)
        self._clean(entry.name)
        self._free(entry.slot)

    @property
    def is_starting(self) -> bool:
        """Whether a message has been taken whose runner has not begun its attempt."""
        with self._lock:
            return len(self._slots) > len(self._registry.live())

    def running(self) -> list[RunnerEntry]:
        return self._registry.live()

    def poke(self, job_id: str) -> int:
        """Have the runners of a job ask the control plane at once; returns how many there are."""
        found = [entry for entry in self._registry.live() if entry.job_id == job_id]
        for entry in found:
            with suppress(ProcessLookupError):
                os.kill(entry.pid, signal.SIGUSR1)
        return len(found)

    def run(self, job_id: str, attempt: int) -> int:
        """Carry one attempt in a runner of its own and return its exit code when it has ended.

        Raises:
            RuntimeError: every slot is taken, which dispatch does not let happen.
        """
        slot = self._take_slot(f"{job_id}.{attempt}")
        try:
            code = self._start(job_id, attempt, slot).wait()
            self._clean(f"{job_id}.{attempt}")
        finally:
            self._free(slot)
        if code:
            log.error("the runner of %s.%s ended with %s", job_id, attempt, code)
        return code

    def _take_slot(self, name: str) -> int:
        with self._lock:
            slot = next((n for n in range(self._config.max_concurrent_jobs) if n not in self._slots), None)
            if slot is None:
                raise RuntimeError(f"no free slot for {name}")
            self._slots.add(slot)
        return slot

    def _free(self, slot: int) -> None:
        with self._lock:
            self._slots.discard(slot)

    def _start(self, job_id: str, attempt: int, slot: int) -> subprocess.Popen[bytes]:
        order = json.dumps({"job_id": job_id, "attempt": attempt, "slot": slot}).encode() + b"\n"
        runner = self._take_spare() or self._spawn()
        try:
            _tell(runner, order)
        except BrokenPipeError:
            # The spare died after the last look at it.
            runner.wait()
            runner = self._spawn()
            _tell(runner, order)
        threading.Timer(_SPARE_AFTER_S, self.keep_spare).start()
        return runner

    def _take_spare(self) -> subprocess.Popen[bytes] | None:
        with self._lock:
            spare, self._spare = self._spare, None
            fresh = self._spare_config == self._config_path.stat().st_mtime_ns
        if spare is not None and not fresh:
            # It has read the configuration as it was.
            _dismiss(spare)
            return None
        return spare

    def _clean(self, name: str) -> None:
        """Remove what a runner that was killed could not remove itself."""
        leftover = self._config.workspace_path / name
        if leftover.exists() and name not in {entry.name for entry in self._registry.live()}:
            try:
                remove_tree(leftover)
            except OSError as error:
                log.error("what was left of %s cannot be removed: %s", name, error)
        sweep_groups()

    def keep_spare(self) -> None:
        """Have one runner ready that has imported all it needs."""
        with self._lock:
            if not self._closed and (self._spare is None or self._spare.poll() is not None):
                self._spare_config = self._config_path.stat().st_mtime_ns
                self._spare = self._spawn()

    def _spawn(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "workers.runner.runner", str(self._config_path)],
            stdin=subprocess.PIPE,
            cwd=Path(__file__).resolve().parent.parent,
            env=runner_environment(),
            # Its own session: signals to the worker's group and the worker's end do not reach it.
            start_new_session=True,
        )

    def close(self) -> None:
        """End the spare; runners at work go on."""
        with self._lock:
            spare, self._spare = self._spare, None
            self._closed = True
        if spare is not None:
            _dismiss(spare)


def _tell(runner: subprocess.Popen[bytes], order: bytes) -> None:
    assert runner.stdin is not None  # noqa: S101  # _spawn opens it
    with runner.stdin as stdin:
        stdin.write(order)


def _dismiss(spare: subprocess.Popen[bytes]) -> None:
    """End a spare, which ends when there is no order."""
    assert spare.stdin is not None  # noqa: S101  # _spawn opens it
    spare.stdin.close()
    spare.wait(timeout=10)
