"""Process that makes one call of a remote through the product's code, and that a test may kill.

Usage: python -m tests.integration.workers.git.call_as_process JOB_DIR, with the rest as JSON on standard input.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from workers.git.command import Git
from workers.git.policy import GitPolicy, RepoSpec
from workers.git.remote import RemoteRepository


def main() -> None:
    directory = Path(sys.argv[1]) / "git"
    repository = directory / "clean.git"
    repository.mkdir(parents=True)
    given = json.load(sys.stdin)
    hosts = frozenset({"localhost", "127.0.0.1"})
    policy = GitPolicy(allowed_private_hosts=hosts, ca_file=Path(given["ca_file"]))
    spec = RepoSpec(given["url"], "main", "feature/ai", given["token"])
    asyncio.run(RemoteRepository(spec, policy, repository, Git(home=directory)).list(["main"]))


if __name__ == "__main__":
    main()
