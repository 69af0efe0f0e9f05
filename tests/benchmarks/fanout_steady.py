"""Lag of the events of a working agent at fifty viewers."""

from __future__ import annotations

import asyncio

from tests.acceptance.client import Client
from tests.benchmarks.audience import Observation, audience
from tests.benchmarks.load import Load, measured
from tests.benchmarks.result import Result
from tests.benchmarks.stock_channels import LAYERS
from tests.benchmarks.stock_peer import run_stock_channels
from tests.benchmarks.streams import END_S, PEER, shown, streaming_stack, viewers_of_jobs
from tests.benchmarks.tally import lag_percentile, lag_spread
from tests.fixtures.simulated_shard import SimulatedShard

TARGET_MS = 250
VIEWERS = 50
RATE, SECONDS = 100, 10


def measure() -> Result:
    """Measure fifty viewers of one job, then the same with stock Channels."""
    with streaming_stack() as client:
        observation, load = asyncio.run(_ours(client))
        groups, events = ["steady"] * VIEWERS, RATE * SECONDS
        peers = {
            layer: asyncio.run(
                run_stock_channels(client.stack, layer, groups, events, lambda p: p.stream("steady", RATE, SECONDS))
            )
            for layer in LAYERS
        }
    return Result(
        "fanout_steady",
        lag_percentile(observation.lags, 99),
        "ms",
        min(peer.p99 for peer in peers.values()),
        TARGET_MS,
        {
            "lost": 0,
            "lag_ms": lag_spread(observation.lags),
            "load": load.as_dict(),
            "peer": PEER,
            "stock": shown(peers),
        },
    )


async def _ours(client: Client) -> tuple[Observation, Load]:
    async with SimulatedShard(client.stack) as shard:
        run = await shard.start_job(client)
        async with audience(viewers_of_jobs(client.stack, [run.job_id], VIEWERS)) as watching:
            async with measured(client.stack) as load:
                await run.stream(RATE, SECONDS)
            count = await run.finish()
            observation = await watching.wait_end(END_S)
    observation.check_exact([count] * VIEWERS)
    return observation, load
