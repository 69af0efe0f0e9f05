"""Starts runners, one of them ahead of need, and keeps count of the shard's slots."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

from workers.config import ShardConfig
from workers.git.cleanup import remove_tree
from workers.registry import Registry, RunnerEntry

log = logging.getLogger(__name__)

# A spare imports for over a second; right after a job's start that would take the agent's time.
_SPARE_AFTER_S = 3.0
_POLL_S = 0.5
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
        self._slots: dict[int, int] = {}

    def adopt(self) -> list[RunnerEntry]:
        """Find the runners that an earlier worker of this shard left running, and count their slots."""
        found = self._registry.live()
        with self._lock:
            self._slots.update({entry.slot: entry.pid for entry in found})
        self.sweep(older_than_s=0)
        return found

    def sweep(self, older_than_s: float) -> None:
        """Remove what dead runners left, as a workspace may hold a customer's code.

        Args:
            older_than_s: spares directories that were changed within this time.
        """
        root = self._config.workspace_path
        directories = list(root.iterdir()) if root.is_dir() else []
        # In this order: a directory that is made after the first look is not on the list.
        live = {entry.name for entry in self._registry.live()}
        for directory in directories:
            with suppress(FileNotFoundError):
                if directory.name not in live and time.time() - directory.stat().st_mtime >= older_than_s:
                    log.info("removing what was left of %s", directory.name)
                    remove_tree(directory)

    def await_adopted(self, entry: RunnerEntry) -> None:
        """Return when an adopted runner has ended, and free its slot."""
        while entry.is_alive():
            time.sleep(_POLL_S)
        self._release(entry.slot, entry.name)

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
        runner, slot = self._start(job_id, attempt)
        code = runner.wait()
        self._release(slot, f"{job_id}.{attempt}")
        if code:
            log.error("the runner of %s.%s ended with %s", job_id, attempt, code)
        return code

    def _start(self, job_id: str, attempt: int) -> tuple[subprocess.Popen[bytes], int]:
        with self._lock:
            slot = next((n for n in range(self._config.max_concurrent_jobs) if n not in self._slots), None)
            if slot is None:
                raise RuntimeError(f"no free slot for {job_id}.{attempt}")
            spare, self._spare = self._spare, None
            runner = spare if spare is not None and spare.poll() is None else self._spawn()
            self._slots[slot] = runner.pid
        order = {"job_id": job_id, "attempt": attempt, "slot": slot}
        assert runner.stdin is not None  # noqa: S101  # _spawn opens it
        runner.stdin.write(json.dumps(order).encode() + b"\n")
        runner.stdin.close()
        threading.Timer(_SPARE_AFTER_S, self.keep_spare).start()
        return runner, slot

    def _release(self, slot: int, name: str) -> None:
        # A runner that was killed could not clean up after itself.
        leftover = self._config.workspace_path / name
        if leftover.exists() and name not in {entry.name for entry in self._registry.live()}:
            remove_tree(leftover)
        with self._lock:
            self._slots.pop(slot, None)

    def keep_spare(self) -> None:
        """Have one runner ready that has imported all it needs."""
        with self._lock:
            if self._spare is None or self._spare.poll() is not None:
                self._spare = self._spawn()

    def _spawn(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "workers.runner", str(self._config_path)],
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
        if spare is not None and spare.stdin is not None:
            spare.stdin.close()
            spare.wait(timeout=10)
