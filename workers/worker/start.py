"""Start of a shard's worker: its configuration, its isolation and its limits."""

from __future__ import annotations

import logging
import sys
import warnings
from pathlib import Path

from myctobot.contract.shards import IsolationKind
from workers.config import GIT_CERTIFICATES, ConfigError, ShardConfig, load_config
from workers.sandbox import isolation, own_group
from workers.sandbox.disk_image import unmount_leftovers
from workers.sandbox.enforcement import enforced_limits, limits_problem
from workers.sandbox.limits import sweep_groups
from workers.worker.app import ShardWorker
from workers.worker.sandbox_watch import probe_config


def run_shard(path: Path) -> int:
    """Check the configuration and the sandbox, then run the worker.

    Args:
        path: the configuration's file.

    Returns:
        The exit code; 2 means that the operator must fix what the log says before the next start.
    """
    logging.basicConfig(format="%(levelname)s %(name)s %(message)s", level=logging.INFO, stream=sys.stderr)
    for noisy in ("httpx", "httpcore", "celery.worker.strategy"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    # A shard starts agents as other users, which only root may do.
    warnings.filterwarnings("ignore", "You're running the worker with superuser privileges")
    try:
        config = load_config(path)
    except ConfigError as error:
        logging.error("%s: %s", path, error)
        return 2
    own_group.prepare()
    if not _decide_isolation(config):
        return 2
    if config.git_certificates:
        config.run_path.mkdir(mode=0o755, parents=True, exist_ok=True)
        (config.run_path / GIT_CERTIFICATES).write_text(config.git_certificates)
    sweep_groups()
    return ShardWorker(config, path.absolute()).run()


def _decide_isolation(config: ShardConfig) -> bool:
    """Decide and record how this shard isolates its agents; return False if it must not start."""
    sandbox = probe_config(config)
    try:
        earlier = isolation.load(config.run_path)
        unmount_leftovers(config.workspace_path, config.run_path)
        decided = isolation.decide(
            sandbox,
            config.workspace_path,
            config.run_path,
            allow_unsandboxed=config.allow_unsandboxed,
            earlier=earlier,
        )
    except isolation.SandboxRefused as error:
        logging.error("this shard cannot start: %s", error)
        return False
    if not _are_limits_acceptable(config, decided):
        return False
    if decided.kind is IsolationKind.NONE:
        logging.warning("*** NOTHING IS ISOLATED ON THIS SHARD: %s ***", decided.problem)
        logging.warning("*** Agents run as the shard's own user and see its files. Run only jobs that you trust. ***")
    if not decided.disk_images:
        log = "jobs have no bound on disk space of their own, only the minimum of sandbox.min_free_mb: %s"
        logging.warning(log, decided.disk_problem)
    isolation.store(config.run_path, decided)
    return True


def _are_limits_acceptable(config: ShardConfig, decided: isolation.Isolation) -> bool:
    """Tell whether the shard may start: it limits its agents, or its configuration allows it not to."""
    problem = limits_problem(enforced_limits(decided))
    if problem is None:
        return True
    if not config.allow_unlimited:
        logging.error("this shard cannot start: %s", problem)
        return False
    logging.warning("*** NOTHING IS LIMITED ON THIS SHARD: %s ***", problem)
    return True
