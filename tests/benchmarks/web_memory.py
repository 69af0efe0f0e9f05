"""Growth of the web process's memory with large lists at many connections, and with viewers that come and go."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx

from myctobot.contract.limits import MAX_PROMPT_BYTES
from tests.acceptance.client import Client
from tests.benchmarks.memory import Memory, memory_of
from tests.benchmarks.result import Result
from tests.stacks import running_stack

TARGET_MB = 30
PAGES, CONNECTIONS, JOBS, VIEWERS = 900, 32, 200, 1000
# Threads, connections to the database and lazily loaded modules exist after these calls.
WARM_UP_PAGES, WARM_UP_VIEWERS = 64, 32
_VIEWERS_AT_ONCE = 100
# After this time the process has closed what its clients left.
_REST_S = 3.0
_ONE_ADDRESS = {"MAX_CONNECTIONS_PER_ADDRESS": "4000"}


@dataclass(frozen=True)
class Growth:
    """Memory of the web process before and after the calls."""

    before: Memory
    after_pages: Memory
    after_viewers: Memory

    @property
    def mb(self) -> float:
        """Growth that the calls leave behind."""
        return round(max(self.after_pages.rss, self.after_viewers.rss) - self.before.rss, 1)


def measure() -> Result:
    """Measure 900 list pages at 32 connections, and 1,000 viewers that connect and disconnect."""
    with web_stack() as client:
        found = measure_growth(client, pages=PAGES, jobs=JOBS, viewers=VIEWERS)
    return Result(
        "web_memory",
        found.mb,
        "MB",
        found.before.rss,
        TARGET_MB,
        {
            "before": found.before.as_dict(),
            "after_pages": found.after_pages.as_dict(),
            "after_viewers": found.after_viewers.as_dict(),
            "peer": "the whole process after its first calls",
        },
    )


@contextmanager
def web_stack() -> Iterator[Client]:
    """Start a stack whose only address may have many connections."""
    with (
        TemporaryDirectory(prefix="benchmark-") as folder,
        running_stack(Path(folder, "home"), "--without", "gateway", environ=_ONE_ADDRESS) as stack,
        Client(stack) as client,
    ):
        yield client


def measure_growth(client: Client, *, pages: int, jobs: int, viewers: int) -> Growth:
    """Measure the memory of the web process.

    Args:
        client: of a stack with one web process.
        pages: number of lists that are read, of at most ``jobs`` rows each.
        jobs: number of parked jobs with the largest prompts.
        viewers: number of streams that are opened and left.
    """
    later = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 24 * 3600))
    prompt = "x" * MAX_PROMPT_BYTES
    ids = [client.submit({"prompt": prompt}, not_before=later) for _ in range(jobs)]
    [pid] = client.stack.web_pids()
    _call(client, ids[0], WARM_UP_PAGES, 0)
    _call(client, ids[0], 0, WARM_UP_VIEWERS)
    before = memory_of(pid)
    _call(client, ids[0], pages, 0)
    after_pages = memory_of(pid)
    _call(client, ids[0], 0, viewers)
    return Growth(before, after_pages, memory_of(pid))


def _call(client: Client, job_id: str, pages: int, viewers: int) -> None:
    asyncio.run(_call_all(client, job_id, pages, viewers))
    time.sleep(_REST_S)


async def _call_all(client: Client, job_id: str, pages: int, viewers: int) -> None:
    async with httpx.AsyncClient(
        base_url=client.http.base_url,
        headers=client.http.headers,
        trust_env=False,
        timeout=120,
        limits=httpx.Limits(max_connections=None),
    ) as http:
        connections, streams = asyncio.Semaphore(CONNECTIONS), asyncio.Semaphore(_VIEWERS_AT_ONCE)

        async def read_page() -> None:
            async with connections:
                answer = await http.get("/jobs", params={"limit": 200})
                answer.raise_for_status()

        async def watch() -> None:
            async with streams, http.stream("GET", f"/jobs/{job_id}/stream") as answer:
                answer.raise_for_status()
                await anext(answer.aiter_bytes())

        await asyncio.gather(*(read_page() for _ in range(pages)), *(watch() for _ in range(viewers)))
