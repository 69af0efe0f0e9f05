"""Lag at a thousand viewers of a hundred jobs on one web process."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass

from redis import Redis

from tests.acceptance.client import Client
from tests.benchmarks.audience import Observation, audience
from tests.benchmarks.load import Load, measured
from tests.benchmarks.peers import broker_url
from tests.benchmarks.result import Check, Result
from tests.benchmarks.stock_channels import LAYERS
from tests.benchmarks.stock_peer import Producer, run_stock_channels
from tests.benchmarks.streams import END_S, PEER, shown, start_jobs, streaming_stack, viewers_of_jobs
from tests.benchmarks.tally import lag_percentile, lag_spread
from tests.fixtures.simulated_shard import SimulatedRun, simulated_shards
from tests.stacks import RunningStack

TARGET_MS = 1000
JOBS, VIEWERS, SHARDS = 100, 1000, 2
# Each job sends a batch of events at this interval, which makes 25 batches a second for all jobs.
EVENTS, EVERY_S, TIMES = 10, 4.0, 3
VIEWER_PROCESSES = 2
# Celery and the web process's own channel subscribe too.
OTHER_SUBSCRIPTIONS = 10


@dataclass(frozen=True)
class Subscriptions:
    """Number of Redis channels with listeners, and the number of listeners to all of them."""

    channels: int
    listeners: int


def measure() -> Result:
    """Measure a thousand viewers of a hundred jobs, then the same with stock Channels."""
    with streaming_stack() as client:
        observation, load, before, during = asyncio.run(_ours(client))
        groups = [f"many.{number % JOBS}" for number in range(VIEWERS)]
        peers = {
            layer: asyncio.run(
                run_stock_channels(client.stack, layer, groups, EVENTS * TIMES, _produce, processes=VIEWER_PROCESSES)
            )
            for layer in LAYERS
        }
    added = during.listeners - before.listeners
    return Result(
        "fanout_many",
        lag_percentile(observation.lags, 99),
        "ms",
        min(peer.p99 for peer in peers.values()),
        TARGET_MS,
        {
            "lost": 0,
            "lag_ms": lag_spread(observation.lags),
            "load": load.as_dict(),
            "redis_channels": {"before": before.channels, "during": during.channels},
            "peer": PEER,
            "stock": shown(peers),
        },
        checks=[Check("Redis subscriptions of the watched jobs", added, JOBS + OTHER_SUBSCRIPTIONS, "subscriptions")],
    )


def _subscriptions(stack: RunningStack) -> Subscriptions:
    with Redis.from_url(broker_url(stack)) as redis:
        channels = redis.pubsub_channels()
        return Subscriptions(len(channels), sum(count for _, count in redis.pubsub_numsub(*channels)))


async def _ours(client: Client) -> tuple[Observation, Load, Subscriptions, Subscriptions]:
    async with simulated_shards(client.stack, SHARDS) as shards:
        runs = await start_jobs(client, shards, JOBS)
        before = await asyncio.to_thread(_subscriptions, client.stack)
        viewers = viewers_of_jobs(client.stack, [run.job_id for run in runs], VIEWERS)
        async with audience(viewers, VIEWER_PROCESSES) as watching:
            during = await asyncio.to_thread(_subscriptions, client.stack)
            async with measured(client.stack) as load:
                counts = await asyncio.gather(*(_emit_batches(run) for run in runs))
            observation = await watching.wait_end(END_S)
    observation.check_exact([counts[number % JOBS] for number in range(VIEWERS)])
    return observation, load, before, during


async def _emit_batches(run: SimulatedRun) -> int:
    # Real agents do not write at the same moments, so each job starts at a random time.
    await asyncio.sleep(random.uniform(0, EVERY_S))
    for _ in range(TIMES):
        await run.emit(EVENTS)
        await asyncio.sleep(EVERY_S)
    return await run.finish()


async def _produce(producer: Producer) -> None:
    await asyncio.gather(*(_emit_stock_batches(producer, f"many.{number}") for number in range(JOBS)))


async def _emit_stock_batches(producer: Producer, group: str) -> None:
    await asyncio.sleep(random.uniform(0, EVERY_S))
    for turn in range(TIMES):
        await producer.burst(group, EVENTS, first=turn * EVENTS + 1)
        await asyncio.sleep(EVERY_S)
