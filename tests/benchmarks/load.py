"""Processor time of a running stack's processes, and memory of its web processes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.benchmarks.memory import memory_of
from tests.benchmarks.starts import HZ
from tests.stacks import RunningStack
from workers.sandbox import process_tree

_SAMPLE_INTERVAL_S = 1.0


@dataclass
class Load:
    """Resources that a stack used during a measurement.

    Attributes:
        seconds: the duration.
        web_cpu_s, postgres_cpu_s, redis_cpu_s: processor time; the process of the shard API counts as a web process.
        web_before_mb: resident memory of the web processes at the start.
        web_mb: samples of that memory.
    """

    seconds: float = 0.0
    web_cpu_s: float = 0.0
    postgres_cpu_s: float = 0.0
    redis_cpu_s: float = 0.0
    web_before_mb: float = 0.0
    web_mb: list[float] = field(default_factory=list)

    @property
    def growth_mb(self) -> float:
        """Largest growth of the web processes' memory since the start."""
        return round(max(self.web_mb) - self.web_before_mb, 1)

    def as_dict(self) -> dict[str, float]:
        return {
            "seconds": round(self.seconds, 1),
            "web_cpu_s": round(self.web_cpu_s, 2),
            "postgres_cpu_s": round(self.postgres_cpu_s, 2),
            "redis_cpu_s": round(self.redis_cpu_s, 2),
            "web_rss_before_mb": self.web_before_mb,
            "web_rss_most_mb": max(self.web_mb),
        }


def tree_cpu_s(root: int) -> float:
    """Return the processor time of a process, its descendants, and the ended children that it waited for."""
    processes = process_tree.snapshot()
    return sum(_cpu_s(pid) for pid in {root, *process_tree.descendants(processes, {root})})


def _cpu_s(pid: int) -> float:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    # The fields are utime, stime, cutime and cstime; see proc_pid_stat(5).
    return sum(int(ticks) for ticks in text.rpartition(")")[2].split()[11:15]) / HZ


def _cpu(stack: RunningStack) -> tuple[float, float, float]:
    return (
        sum(map(tree_cpu_s, _web_pids(stack))),
        tree_cpu_s(stack.pid_of("postgres")),
        tree_cpu_s(stack.pid_of("redis")),
    )


@asynccontextmanager
async def measured(stack: RunningStack) -> AsyncIterator[Load]:
    """Measure the stack during the block; the figures are complete when the block ends."""
    load = Load()
    web = _web_pids(stack)
    load.web_before_mb = _rss_mb(web)
    load.web_mb.append(load.web_before_mb)
    sampling = asyncio.create_task(_sample_memory(web, load.web_mb))
    began, before = time.monotonic(), _cpu(stack)
    try:
        yield load
    finally:
        sampling.cancel()
    load.seconds = time.monotonic() - began
    load.web_mb.append(_rss_mb(web))
    used = [end - start for start, end in zip(before, _cpu(stack), strict=True)]
    load.web_cpu_s, load.postgres_cpu_s, load.redis_cpu_s = used


def _web_pids(stack: RunningStack) -> list[int]:
    has_shard_api = stack.shard_api_url != stack.web_url
    return [*stack.web_pids(), *([stack.pid_of("shardapi")] if has_shard_api else [])]


async def _sample_memory(pids: list[int], found: list[float]) -> None:
    while True:
        await asyncio.sleep(_SAMPLE_INTERVAL_S)
        found.append(_rss_mb(pids))


def _rss_mb(pids: list[int]) -> float:
    return round(sum(memory_of(pid).rss for pid in pids), 1)
