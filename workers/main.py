"""Command ``python -m workers.main --config /etc/claude-shard/config.json``, which runs a shard's worker."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from myctobot.contract import loading
from workers.hardening import keep_memory_private


def main() -> int:
    """Run the worker, and return the exit code."""
    keep_memory_private()
    parser = argparse.ArgumentParser(description="Run a shard's worker.")
    parser.add_argument("--config", type=Path, default=Path("/etc/claude-shard/config.json"))
    path: Path = parser.parse_args().config
    loading.begin()
    from workers.worker.start import run_shard

    loading.finish()
    return run_shard(path)


if __name__ == "__main__":
    sys.exit(main())
