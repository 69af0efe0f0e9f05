"""Memory of a runner while its agent works."""

from __future__ import annotations

import time
from collections.abc import Sequence

from tests.acceptance.client import Client, file_url
from tests.benchmarks import peers
from tests.benchmarks.memory import Memory, memory_of, total
from tests.benchmarks.result import Result, spread
from tests.benchmarks.shard import Shard, measured_stack, repositories_of
from tests.fixtures.repos import make_remote

TARGET_MB = 90
SAMPLES = 12
SAMPLE_INTERVAL_S = 0.5


def measure() -> Result:
    """Measure a runner that cloned a repository and now reads the events of a working agent."""
    with measured_stack() as client:
        shard = Shard(client.stack)
        spare = memory_of(shard.wait_spare())
        remote = make_remote(repositories_of(client) / "remote.git")
        job_id = client.submit({"prompt": "SLOW JOB", "repo_url": file_url(remote)})
        client.wait_event(job_id, "tool.call")
        runner, agent = _sample_memory(shard)
        _cancel(client, job_id)
        with peers.bare_imports() as bare:
            imports = bare.memory_at_rest()
    worst = max(runner, key=lambda memory: memory.rss)
    return Result(
        "runner_memory",
        worst.rss,
        "MB",
        imports.rss,
        TARGET_MB,
        {
            "rss": spread([memory.rss for memory in runner]),
            "runner": worst.as_dict(),
            "warm_spare": spare.as_dict(),
            "agent_and_its_processes": max(agent, key=lambda memory: memory.rss).as_dict(),
            "peer": "a Python process that imports claude_agent_sdk and httpx, and waits",
            "peer_memory": imports.as_dict(),
        },
    )


def _sample_memory(shard: Shard) -> tuple[Sequence[Memory], Sequence[Memory]]:
    (pid,) = shard.runners()
    runner, agent = [], []
    for _ in range(SAMPLES):
        runner.append(memory_of(pid))
        agent.append(total(_memories(shard)))
        time.sleep(SAMPLE_INTERVAL_S)
    return runner, agent


def _memories(shard: Shard) -> list[Memory]:
    found = []
    for info in shard.tree():
        # A process that a tool call started may end before it is measured.
        try:
            found.append(memory_of(info.pid))
        except (FileNotFoundError, ProcessLookupError, ValueError):
            continue
    return found


def _cancel(client: Client, job_id: str) -> None:
    client.cancel(job_id)
    client.wait_end(job_id)
