"""Watch over a shard's sandbox: reports a failure to the control plane until a new test succeeds."""

from __future__ import annotations

import logging
import threading
import time
from typing import Final

from myctobot.contract.shards import HeartbeatRequest, IsolationKind, JobNetwork
from workers.config import ShardConfig
from workers.sandbox import disk_image, isolation
from workers.sandbox.enforcement import enforced_limits
from workers.sandbox.sandbox import SandboxConfig

log = logging.getLogger(__name__)

RETEST_EVERY_S: Final = 15.0


def probe_config(config: ShardConfig) -> SandboxConfig:
    """Return the configuration with which a shard tests its sandbox: that of an agent with all direct addresses."""
    return SandboxConfig(
        limits=config.limits,
        agent_uid=config.first_agent_uid,
        own_network=config.own_network,
        addresses=config.addresses,
    )


class SandboxWatch:
    """Isolation and present problem of a shard, for its heartbeats.

    Args:
        config: configuration of the shard.
    """

    def __init__(self, config: ShardConfig) -> None:
        self._run_path, self._workspaces = config.run_path, config.workspace_path
        self._sandbox = probe_config(config)
        self._retest: threading.Thread | None = None
        self._next_retest = 0.0

    def add_to(self, report: HeartbeatRequest) -> HeartbeatRequest:
        """Return a heartbeat with the isolation and its problem, and start a new test if one is due.

        Raises:
            OSError: the shard's state cannot be read. No heartbeat may then claim that all is well.
        """
        try:
            decided = isolation.load(self._run_path)
        except isolation.SandboxRefused as error:
            raise OSError(str(error)) from error
        if decided is not None:
            report["isolation"] = decided.kind.value
            report["limits"] = enforced_limits(decided)
            own = self._sandbox.own_network and decided.kind is IsolationKind.SANDBOX
            report["network"] = (JobNetwork.JOB if own else JobNetwork.SHARD).value
        if problem := isolation.read_problem(self._run_path):
            report["sandbox_problem"] = problem
            self._start_retest(decided)
        return report

    def _start_retest(self, decided: isolation.Isolation | None) -> None:
        """Test in a thread, because heartbeats must not wait; the first test waits until the problem was reported."""
        now = time.monotonic()
        if self._next_retest == 0.0:
            self._next_retest = now + RETEST_EVERY_S
        running = self._retest is not None and self._retest.is_alive()
        if decided is None or running or now < self._next_retest:
            return
        self._next_retest = now + RETEST_EVERY_S
        self._retest = threading.Thread(target=self._test, args=[decided], name="sandbox-test", daemon=True)
        self._retest.start()

    def _test(self, decided: isolation.Isolation) -> None:
        # Without one of the recorded control groups, the test fails too.
        _, problem = isolation.probe(decided.apply(self._sandbox))
        if not problem and decided.disk_images:
            problem = disk_image.probe(self._workspaces, self._run_path, self._sandbox.limits)
        if problem:
            log.error("the sandbox still fails: %s", problem)
            return
        log.info("the sandbox works again")
        isolation.clear_problem(self._run_path)
        self._next_retest = 0.0
