"""Heartbeat of a shard: a report of its configuration and load every few seconds."""

from __future__ import annotations

import logging
import shutil
import subprocess
import threading
from collections.abc import Callable
from importlib import metadata

from myctobot.contract.limits import HEARTBEAT_EVERY_S
from myctobot.contract.shards import HeartbeatAnswer, HeartbeatRequest
from workers import VERSION
from workers.config import ShardConfig
from workers.control_plane import ControlError, WorkerControlPlane
from workers.worker.broker_refusals import REFUSALS
from workers.worker.redis_transport import MESSAGES
from workers.worker.sandbox_watch import SandboxWatch
from workers.worker.spawner import Spawner
from workers.worker.system_load import ProcessorLoad, memory_total_mb, memory_used_mb

log = logging.getLogger(__name__)

# Minimum time between two heartbeats, also when many are requested.
_MIN_INTERVAL_S = 0.3


def versions() -> dict[str, str]:
    """Return the versions of the programs that jobs depend on, for the operators' pages."""
    git = subprocess.run(["git", "--version"], capture_output=True, text=True, timeout=10, check=False)
    return {
        "myctobot": VERSION,
        "celery": metadata.version("celery"),
        "claude-agent-sdk": metadata.version("claude-agent-sdk"),
        "git": git.stdout.removeprefix("git version ").strip()[:40],
    }


class HeartbeatSender(threading.Thread):
    """Thread that sends the heartbeats of a shard until ``stop``.

    Args:
        config: configuration of the shard.
        spawner: source of the live runners.
        apply_orders: called with every answer after the first.
    """

    def __init__(self, config: ShardConfig, spawner: Spawner, apply_orders: Callable[[HeartbeatAnswer], None]) -> None:
        super().__init__(name="heartbeat", daemon=True)
        self._config, self._spawner, self._apply_orders = config, spawner, apply_orders
        self._control = WorkerControlPlane(config.control_url, config.shard_key)
        self._versions = versions()
        self._processor = ProcessorLoad()
        self._sandbox = SandboxWatch(config)
        self._ended = threading.Event()
        self._requested = threading.Event()
        self._last_error = ""
        self.answer: HeartbeatAnswer | None = None

    def beat(self) -> HeartbeatAnswer:
        """Send one heartbeat.

        Raises:
            ControlError: the heartbeat did not arrive or was refused.
        """
        self._config.workspace_path.mkdir(mode=0o711, parents=True, exist_ok=True)
        report = self._sandbox.add_to(self._load())
        self.answer = self._control.heartbeat(report)
        self._spawner.forget_ended(report.get("ended", []))
        return self.answer

    def _load(self) -> HeartbeatRequest:
        report = HeartbeatRequest(
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
        if MESSAGES.dropped:
            report["dropped_messages"] = {str(reason): count for reason, count in MESSAGES.dropped.copy().items()}
        if ended := self._spawner.ended():
            report["ended"] = ended
        if refusal := REFUSALS.lasting():
            report["broker_problem"] = str(refusal)
        return report

    def first_answer(self) -> HeartbeatAnswer:
        """Send heartbeats until the control plane answers; the answer names the queues of this shard."""
        while True:
            answer = self._try_beat()
            if answer is not None:
                return answer
            self._ended.wait(HEARTBEAT_EVERY_S)

    def _try_beat(self) -> HeartbeatAnswer | None:
        try:
            answer = self.beat()
        except (ControlError, OSError) as error:
            # Log the same error once, not every few seconds.
            if str(error) != self._last_error:
                self._last_error = str(error)
                log.error("heartbeat: %s", error)
            return None
        if self._last_error:
            self._last_error = ""
            log.info("heartbeat: the control plane answers again")
        return answer

    def run(self) -> None:
        while not self._ended.wait(_MIN_INTERVAL_S):
            self._requested.wait(HEARTBEAT_EVERY_S - _MIN_INTERVAL_S)
            self._requested.clear()
            if self._ended.is_set():
                return
            try:
                answer = self._try_beat()
                if answer is not None:
                    self._apply_orders(answer)
                self._spawner.sweep(self._config.job_ttl_minutes * 60)
            except Exception:  # without this thread the control plane would lose the shard until its next restart
                log.exception("heartbeat: an unexpected error; the next heartbeat follows")

    def beat_now(self) -> None:
        """Send a heartbeat at once, to receive the control plane's orders."""
        self._requested.set()

    def stop(self) -> None:
        self._ended.set()
        self._requested.set()
