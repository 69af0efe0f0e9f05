"""Main function of a runner's process, which waits for an order and runs one attempt."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from pathlib import Path
from typing import Any

from workers.config import ShardConfig, load_config
from workers.control_plane import ControlPlane
from workers.errors import JobError
from workers.executors import create_executor
from workers.hardening import join_fresh_session_keyring, keep_memory_private
from workers.runner.runner import Runner
from workers.runner_registry import Registry
from workers.sandbox.disk_image import enter_private_mounts
from workers.sandbox.isolation import load_for_job, report_problem


def read_order() -> dict[str, Any] | None:
    """Wait for the line that names the attempt; return None when standard input ends without one."""
    line = sys.stdin.readline()
    return dict(json.loads(line)) if line.strip() else None


def _keep_mounts_private(config: ShardConfig) -> bool:
    """Hide the mount of the job's disk image from the machine, so that it ends with this process.

    Returns:
        False if the kernel refused; the control plane then gives the unclaimed attempt to another shard.
    """
    try:
        decided = load_for_job(config.run_path)
    except JobError:
        # The attempt fails for the same reason, and reports it.
        return True
    try:
        if decided.disk_images:
            enter_private_mounts()
    except OSError as error:
        logging.error("the attempt is not claimed: %s", error.strerror)
        report_problem(config.run_path, f"The runner's mounts cannot be kept private: {error.strerror}")
        return False
    return True


def main(config_path: Path) -> int:
    """Load what a runner needs, wait for the order and run the attempt.

    Returns:
        The process's exit code. The caller must exit at once, because threads of libraries may still run.
    """
    keep_memory_private()
    join_fresh_session_keyring()
    logging.basicConfig(format="runner[%(process)d] %(levelname)s %(message)s", level=logging.INFO)
    # The log has no reader when the worker was killed. That must not fail the job.
    logging.raiseExceptions = False
    for noisy in ("httpx", "httpcore", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    config = load_config(config_path)
    # Do the slow work before a job waits for it. Reading the certificates takes most of it.
    create_executor(config)
    control = ControlPlane(config.control_url, config.shard_key)
    order = read_order()
    if order is None:
        return 0
    if not _keep_mounts_private(config):
        return 1
    registry = Registry(config.run_path)
    entry = registry.add(order["job_id"], order["attempt"], order["slot"])
    asyncio.run(Runner(config, control, entry).run())
    # After an error the file stays. By it, the worker knows that this runner ended without a report.
    registry.remove(entry)
    logging.shutdown()
    return 0
