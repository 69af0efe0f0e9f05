"""Processes of viewers, and the sum of the events that they received."""

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
from tests.benchmarks.tally import Received, from_json
from tests.benchmarks.viewers import READY, Viewer
from tests.stacks import RunningStack

_READY_S = 60
_END_S = 10


class InexactDelivery(Exception):
    """A viewer missed an event or received one twice, so that the figures are not comparable."""


@dataclass(frozen=True)
class Observation:
    """Events that all viewers together received.

    Attributes:
        seen: the events of each viewer, in the order of the viewers.
        lags: number of events by lag, in steps of ``tally.STEP_MS``, for the viewers that never paused.
    """

    seen: Sequence[Received]
    lags: Counter[int]

    @property
    def events(self) -> int:
        return sum(one.events for one in self.seen)

    @property
    def last_at(self) -> float:
        """Time at which the last viewer received its last event, in seconds since 1970."""
        return max(one.last_at for one in self.seen)

    def check_exact(self, counts: Sequence[int]) -> None:
        """Raise unless each viewer received the numbers 1..count once each, in order.

        Raises:
            InexactDelivery: a viewer missed an event, or received one twice or out of order.
        """
        wrong = [(one, count) for one, count in zip(self.seen, counts, strict=True) if not one.is_exactly(count)]
        if wrong:
            one, count = wrong[0]
            raise InexactDelivery(
                f"{len(wrong)} of {len(self.seen)} viewers, such as one that should have {count}: {one}"
            )


class Audience:
    """Connected viewers in their processes."""

    def __init__(self, processes: Sequence[Process]) -> None:
        self._processes = processes

    async def wait_end(self, timeout_s: float) -> Observation:
        """Wait until every viewer has received the end of its stream.

        Raises:
            TimeoutError: a viewer did not receive the end in time.
        """
        async with asyncio.timeout(timeout_s):
            texts = await asyncio.gather(*(_output(process) for process in self._processes))
        seen: list[Received] = []
        lags: Counter[int] = Counter()
        for text in texts:
            more, theirs = from_json(json.loads(text))
            seen.extend(more)
            lags.update(theirs)
        return Observation(seen, lags)

    async def wait_quiet(self, timeout_s: float) -> Observation:
        """Wait until no more events arrive, for a stream without an ``end`` event."""
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.close()
        return await self.wait_end(timeout_s)


async def _output(process: Process) -> bytes:
    assert process.stdout is not None
    text = await process.stdout.read()
    if code := await process.wait():
        raise RuntimeError(f"a process of viewers ended with exit code {code}; its error is printed above")
    return text


@asynccontextmanager
async def audience(viewers: Sequence[Viewer], processes: int = 1) -> AsyncIterator[Audience]:
    """Connect viewers, divided among processes in their order."""
    started: list[Process] = []
    share = max(1, -(-len(viewers) // processes))
    try:
        for first in range(0, len(viewers), share):
            started.append(await _start_process(viewers[first : first + share]))
        async with asyncio.timeout(_READY_S):
            await asyncio.gather(*(_wait_ready(process) for process in started))
        yield Audience(started)
    finally:
        for process in started:
            if process.returncode is None:
                process.kill()
            await asyncio.wait_for(process.wait(), _END_S)


async def _start_process(viewers: Sequence[Viewer]) -> Process:
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


async def _wait_ready(process: Process) -> None:
    assert process.stdout is not None
    if (line := await process.stdout.readline()).decode().strip() != READY:
        raise RuntimeError(f"a process of viewers did not become ready; it wrote {line!r}")


def viewer_of_job(stack: RunningStack, job_id: str, transport: str, pause_s: float = 0.0) -> Viewer:
    """Return a viewer of one of the stack's jobs, with the transport ``ws`` or ``sse``."""
    headers = {"Authorization": f"Bearer {stack.api_key}"}
    if transport == "sse":
        return Viewer("sse", f"{stack.web_url}/api/v1/jobs/{job_id}/stream", headers, pause_s)
    web = stack.web_url.replace("http", "ws", 1)
    return Viewer("ws", f"{web}/ws/jobs/{job_id}/?after=0", headers, pause_s)
