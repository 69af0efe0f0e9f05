"""What the benchmarks of the event stream share: a stack whose shard is simulated, and the stock peer's best."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.acceptance.client import Client
from tests.benchmarks.audience import of_job
from tests.benchmarks.stock_peer import StockSight
from tests.benchmarks.viewers import Viewer
from tests.fixtures.simulated_shard import SimulatedRun, SimulatedShard
from tests.stacks import RunningStack, running_stack

TRANSPORTS = ("ws", "sse")
PEER = "stock Channels on the same Redis: a consumer a viewer, group_send an event; the better of its two layers"
# What every viewer has to have by then, once the last event is stored.
END_S = 60
# Each asks again and again whether its job was sent.
_START_AT_ONCE = 8


@contextmanager
def streaming_stack(*options: str) -> Iterator[Client]:
    """Start a stack whose jobs a simulated shard takes, in a folder that goes away with it.

    Args:
        options: more of ``manage.py up``.
    """
    with (
        TemporaryDirectory(prefix="benchmark-") as folder,
        running_stack(Path(folder, "home"), "--without", "shard", "--without", "gateway", *options) as stack,
        Client(stack) as client,
    ):
        yield client


async def start_jobs(client: Client, shards: Sequence[SimulatedShard], count: int) -> list[SimulatedRun]:
    """Start so many jobs, spread evenly over the shards."""
    places = asyncio.Semaphore(_START_AT_ONCE)

    async def start(number: int) -> SimulatedRun:
        async with places:
            return await shards[number % len(shards)].start_job(client)

    return await asyncio.gather(*map(start, range(count)))


def of_jobs(stack: RunningStack, jobs: Sequence[str], viewers: int) -> list[Viewer]:
    """Give each job its share of the viewers, every other by WebSocket and the rest by Server-Sent Events."""
    return [
        of_job(stack, jobs[number % len(jobs)], TRANSPORTS[number // len(jobs) % len(TRANSPORTS)])
        for number in range(viewers)
    ]


def shown(stock: Mapping[str, StockSight]) -> dict[str, object]:
    """What each layer of stock Channels came to."""
    return {layer: sight.shown() for layer, sight in stock.items()}
