"""How late the events of a working agent are at fifty viewers."""

from __future__ import annotations

import asyncio

from tests.acceptance.client import Client
from tests.benchmarks.audience import Sight, audience
from tests.benchmarks.load import Load, measured
from tests.benchmarks.result import Result
from tests.benchmarks.stock_channels import LAYERS
from tests.benchmarks.stock_peer import stock
from tests.benchmarks.streams import END_S, PEER, of_jobs, shown, streaming_stack
from tests.benchmarks.tally import lag_percentile, lag_spread
from tests.fixtures.simulated_shard import SimulatedShard

TARGET_MS = 250
VIEWERS = 50
RATE, SECONDS = 100, 10


def measure() -> Result:
    """Let fifty viewers watch one job, then the same with stock Channels."""
    with streaming_stack() as client:
        sight, load = asyncio.run(_ours(client))
        groups = ["steady"] * VIEWERS
        peers = {
            layer: asyncio.run(
                stock(client.stack, layer, groups, RATE * SECONDS, lambda p: p.stream("steady", RATE, SECONDS))
            )
            for layer in LAYERS
        }
    return Result(
        "fanout_steady",
        lag_percentile(sight.lags, 99),
        "ms",
        min(peer.p99 for peer in peers.values()),
        TARGET_MS,
        {
            "lost": 0,
            "lag_ms": lag_spread(sight.lags),
            "load": load.shown(),
            "peer": PEER,
            "stock": shown(peers),
        },
    )


async def _ours(client: Client) -> tuple[Sight, Load]:
    async with SimulatedShard(client.stack) as shard:
        run = await shard.start_job(client)
        async with audience(of_jobs(client.stack, [run.job_id], VIEWERS)) as watching:
            async with measured(client.stack) as load:
                await run.stream(RATE, SECONDS)
            count = await run.finish()
            sight = await watching.until_end(END_S)
    sight.check_exact([count] * VIEWERS)
    return sight, load
