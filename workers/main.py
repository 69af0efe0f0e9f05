"""Command ``python -m workers.main --config /etc/claude-shard/config.json``, which runs a shard's worker."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from workers.config import GIT_CERTIFICATES, ConfigError, ShardConfig, load_config
from workers.hardening import keep_memory_private
from workers.sandbox.limits import sweep_groups
from workers.sandbox.sandbox import SandboxConfig, check
from workers.worker.app import ShardWorker


def main() -> int:
    """Check the configuration and the sandbox, then run the worker.

    Returns:
        The exit code; 2 means that the operator must fix what the log says before the next start.
    """
    keep_memory_private()
    parser = argparse.ArgumentParser(description="Run a shard's worker.")
    parser.add_argument("--config", type=Path, default=Path("/etc/claude-shard/config.json"))
    path: Path = parser.parse_args().config
    logging.basicConfig(format="%(levelname)s %(name)s %(message)s", level=logging.INFO, stream=sys.stderr)
    for noisy in ("httpx", "httpcore", "celery.worker.strategy"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    try:
        config = load_config(path)
    except ConfigError as error:
        logging.error("%s: %s", path, error)
        return 2
    if not _is_sandbox_acceptable(config):
        return 2
    if config.git_certificates:
        config.run_path.mkdir(mode=0o755, parents=True, exist_ok=True)
        (config.run_path / GIT_CERTIFICATES).write_text(config.git_certificates)
    sweep_groups()
    return ShardWorker(config, path.absolute()).run()


def _is_sandbox_acceptable(config: ShardConfig) -> bool:
    """Tell whether the shard may start: it can isolate its agents, or its configuration allows it not to."""
    problem = check(SandboxConfig(limits=config.limits, agent_uid=config.first_agent_uid))
    if problem is None:
        return True
    if not config.allow_unsandboxed:
        logging.error("this shard cannot start: %s", problem)
        return False
    logging.warning("*** NOTHING IS ISOLATED ON THIS SHARD: %s ***", problem)
    logging.warning("*** Agents run as the shard's own user and see its files. Run only jobs that you trust. ***")
    return True


if __name__ == "__main__":
    sys.exit(main())
