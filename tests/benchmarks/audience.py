"""Starts processes full of viewers, and adds up what they saw."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass

from tests.benchmarks.peers import CHECKOUT
from tests.benchmarks.tally import Seen, from_json
from tests.benchmarks.viewers import READY, Viewer
from tests.stacks import RunningStack

_READY_S = 60
_END_S = 10


class NotExact(Exception):
    """A viewer of ours missed an event, or got one twice: no figure is worth anything then."""


@dataclass(frozen=True)
class Sight:
    """What all viewers saw together.

    Attributes:
        seen: by each viewer, in their order.
        lags: of every event at every viewer that never paused, in steps of ``tally.STEP_MS``.
    """

    seen: Sequence[Seen]
    lags: Counter[int]

    @property
    def events(self) -> int:
        return sum(one.events for one in self.seen)

    @property
    def last_at(self) -> float:
        """When the last event came to the last viewer, in seconds since 1970."""
        return max(one.last_at for one in self.seen)

    def check_exact(self, counts: Sequence[int]) -> None:
        """Raise unless each viewer saw 1..count once each, in order.

        Raises:
            NotExact: one did not.
        """
        wrong = [(one, count) for one, count in zip(self.seen, counts, strict=True) if not one.is_exactly(count)]
        if wrong:
            one, count = wrong[0]
            raise NotExact(f"{len(wrong)} of {len(self.seen)} viewers, such as one that should have {count}: {one}")


class Audience:
    """Viewers that are connected, and watch."""

    def __init__(self, processes: Sequence[Process]) -> None:
        self._processes = processes

    async def until_end(self, timeout_s: float) -> Sight:
        """Wait until every viewer has seen the end.

        Raises:
            TimeoutError: one has not.
        """
        async with asyncio.timeout(timeout_s):
            texts = await asyncio.gather(*(_output(process) for process in self._processes))
        seen: list[Seen] = []
        lags: Counter[int] = Counter()
        for text in texts:
            more, theirs = from_json(json.loads(text))
            seen.extend(more)
            lags.update(theirs)
        return Sight(seen, lags)

    async def until_quiet(self, timeout_s: float) -> Sight:
        """Wait until nothing comes any more, for a stream without an end."""
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.close()
        return await self.until_end(timeout_s)


async def _output(process: Process) -> bytes:
    assert process.stdout is not None
    text = await process.stdout.read()
    if code := await process.wait():
        raise RuntimeError(f"a process of viewers ended with exit code {code}; it says why above")
    return text


@asynccontextmanager
async def audience(viewers: Sequence[Viewer], processes: int = 1) -> AsyncIterator[Audience]:
    """Connect viewers, spread over so many processes in their order."""
    started: list[Process] = []
    share = max(1, -(-len(viewers) // processes))
    try:
        for first in range(0, len(viewers), share):
            started.append(await _start(viewers[first : first + share]))
        async with asyncio.timeout(_READY_S):
            await asyncio.gather(*(_ready(process) for process in started))
        yield Audience(started)
    finally:
        for process in started:
            if process.returncode is None:
                process.kill()
            await asyncio.wait_for(process.wait(), _END_S)


async def _start(viewers: Sequence[Viewer]) -> Process:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.benchmarks.viewers",
        cwd=CHECKOUT,
        env={"PATH": os.environ["PATH"]},
        stdin=PIPE,
        stdout=PIPE,
    )
    assert process.stdin is not None
    process.stdin.write(json.dumps([asdict(viewer) for viewer in viewers]).encode() + b"\n")
    await process.stdin.drain()
    return process


async def _ready(process: Process) -> None:
    assert process.stdout is not None
    if (line := await process.stdout.readline()).decode().strip() != READY:
        raise RuntimeError(f"a process of viewers did not become ready; it said {line!r}")


def of_job(stack: RunningStack, job_id: str, transport: str, pause_s: float = 0.0) -> Viewer:
    """A viewer of one of the stack's jobs, by ``ws`` or ``sse``."""
    headers = {"Authorization": f"Bearer {stack.api_key}"}
    if transport == "sse":
        return Viewer("sse", f"{stack.web_url}/api/v1/jobs/{job_id}/stream", headers, pause_s)
    web = stack.web_url.replace("http", "ws", 1)
    return Viewer("ws", f"{web}/ws/jobs/{job_id}/?after=0", headers, pause_s)
