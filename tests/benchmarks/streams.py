"""Helpers of the event stream benchmarks: a stack with a simulated shard, and viewers of its jobs."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.acceptance.client import Client
from tests.benchmarks.audience import viewer_of_job
from tests.benchmarks.stock_peer import StockObservation
from tests.benchmarks.viewers import Viewer
from tests.fixtures.simulated_shard import SimulatedRun, SimulatedShard
from tests.stacks import RunningStack, running_stack

TRANSPORTS = ("ws", "sse")
PEER = "stock Channels on the same Redis: a consumer a viewer, group_send an event; the better of its two layers"
# Every viewer must have received all events this long after the last event is stored.
END_S = 60
# A thousand viewers and shards have the address of this machine.
_ONE_ADDRESS = {"MAX_CONNECTIONS_PER_ADDRESS": "4000"}
# Each start polls for its job, so only a few run at a time.
_START_AT_ONCE = 8


@contextmanager
def streaming_stack(*options: str) -> Iterator[Client]:
    """Start a stack without shards in a temporary folder, for simulated shards.

    Args:
        options: further options of ``manage.py up``.
    """
    with (
        TemporaryDirectory(prefix="benchmark-") as folder,
        running_stack(
            Path(folder, "home"), "--without", "shard", "--without", "gateway", *options, environ=_ONE_ADDRESS
        ) as stack,
        Client(stack) as client,
    ):
        yield client


async def start_jobs(client: Client, shards: Sequence[SimulatedShard], count: int) -> list[SimulatedRun]:
    """Start jobs, evenly distributed over the shards."""
    places = asyncio.Semaphore(_START_AT_ONCE)

    async def start(number: int) -> SimulatedRun:
        async with places:
            return await shards[number % len(shards)].start_job(client)

    return await asyncio.gather(*map(start, range(count)))


def viewers_of_jobs(stack: RunningStack, jobs: Sequence[str], viewers: int) -> list[Viewer]:
    """Return viewers, evenly distributed over the jobs and the two transports."""
    return [
        viewer_of_job(stack, jobs[number % len(jobs)], TRANSPORTS[number // len(jobs) % len(TRANSPORTS)])
        for number in range(viewers)
    ]


def shown(stock: Mapping[str, StockObservation]) -> dict[str, object]:
    """Return the figures of each channel layer."""
    return {layer: observation.as_dict() for layer, observation in stock.items()}
