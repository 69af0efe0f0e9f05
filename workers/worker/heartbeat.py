"""The shard's heartbeat: every few seconds, what it is and how it is."""

from __future__ import annotations

import logging
import shutil
import subprocess
import threading
from collections.abc import Callable
from importlib import metadata

from myctobot.contract.jobs import HEARTBEAT_EVERY_S, HeartbeatAnswer, HeartbeatRequest
from workers import VERSION
from workers.config import ShardConfig
from workers.control_plane import ControlError, ControlPlaneOfWorker
from workers.worker.spawner import Spawner
from workers.worker.system_load import Processor, memory_total_mb, memory_used_mb

log = logging.getLogger(__name__)

# However often it is asked to beat at once, heartbeats are so far apart.
_SOONEST_S = 0.3


def versions() -> dict[str, str]:
    """Versions of what jobs depend on, for the operators' panel."""
    git = subprocess.run(["git", "--version"], capture_output=True, text=True, timeout=10, check=False)
    return {
        "myctobot": VERSION,
        "celery": metadata.version("celery"),
        "claude-agent-sdk": metadata.version("claude-agent-sdk"),
        "git": git.stdout.removeprefix("git version ").strip()[:40],
    }


class Heartbeat(threading.Thread):
    """Sends the heartbeats of one shard until stopped.

    Args:
        config: the shard's.
        spawner: knows the live runners.
        obey: called with every answer after the first.
    """

    def __init__(self, config: ShardConfig, spawner: Spawner, obey: Callable[[HeartbeatAnswer], None]) -> None:
        super().__init__(name="heartbeat", daemon=True)
        self._config, self._spawner, self._obey = config, spawner, obey
        self._control = ControlPlaneOfWorker(config.control_url, config.shard_key)
        self._versions = versions()
        self._processor = Processor()
        self._ended = threading.Event()
        self._asked = threading.Event()
        self._trouble = ""
        self.answer: HeartbeatAnswer | None = None

    def beat(self) -> HeartbeatAnswer:
        """Send one heartbeat.

        Raises:
            ControlError: it did not arrive, or was refused.
        """
        self._config.workspace_path.mkdir(mode=0o711, parents=True, exist_ok=True)
        self.answer = self._control.heartbeat(
            HeartbeatRequest(
                version=VERSION,
                capabilities=list(self._config.capabilities),
                slots=self._config.max_concurrent_jobs,
                running=[entry.name for entry in self._spawner.running()],
                cpu_percent=self._processor.percent(),
                memory_mb=memory_used_mb(),
                memory_total_mb=memory_total_mb(),
                disk_free_mb=shutil.disk_usage(self._config.workspace_path).free // 2**20,
                versions=self._versions,
            )
        )
        return self.answer

    def first_answer(self) -> HeartbeatAnswer:
        """Beat until the control plane answers: it says which queues this shard consumes."""
        while True:
            answer = self._try()
            if answer is not None:
                return answer
            self._ended.wait(HEARTBEAT_EVERY_S)

    def _try(self) -> HeartbeatAnswer | None:
        try:
            answer = self.beat()
        except (ControlError, OSError) as error:
            # The same trouble is said once, not every few seconds.
            if str(error) != self._trouble:
                self._trouble = str(error)
                log.error("heartbeat: %s", error)
            return None
        if self._trouble:
            self._trouble = ""
            log.info("heartbeat: the control plane answers again")
        return answer

    def run(self) -> None:
        while not self._ended.wait(_SOONEST_S):
            self._asked.wait(HEARTBEAT_EVERY_S - _SOONEST_S)
            self._asked.clear()
            if self._ended.is_set():
                return
            answer = self._try()
            if answer is not None:
                self._obey(answer)
            self._spawner.sweep(self._config.job_ttl_minutes * 60)

    def ask_now(self) -> None:
        """Beat at once, and so hear what the control plane wants."""
        self._asked.set()

    def stop(self) -> None:
        self._ended.set()
        self._asked.set()
