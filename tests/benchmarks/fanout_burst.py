"""Events a second that reach fifty viewers during a burst of one agent."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Any

from tests.acceptance.client import Client
from tests.benchmarks.audience import Observation, audience, viewer_of_job
from tests.benchmarks.load import Load, measured
from tests.benchmarks.result import Result
from tests.benchmarks.stock_channels import LAYERS
from tests.benchmarks.stock_peer import run_stock_channels
from tests.benchmarks.streams import END_S, PEER, TRANSPORTS, shown, streaming_stack
from tests.benchmarks.tally import lag_spread
from tests.fixtures.simulated_shard import SimulatedShard

# The target is a multiple of the rate of stock Channels.
TARGET_TIMES = 10
VIEWERS = 50
EVENTS = 20_000
# Our burst would take the peer minutes. The shorter one favours the peer, whose queues lose fewer events.
STOCK_EVENTS = 2_000


@dataclass(frozen=True)
class Burst:
    """Result of one burst."""

    observation: Observation
    load: Load
    posted_s: float
    whole_s: float

    @property
    def rate(self) -> int:
        return round(self.observation.events / self.whole_s)

    def as_dict(self) -> dict[str, Any]:
        return {
            "delivered_per_s": self.rate,
            "seconds": round(self.whole_s, 2),
            "stored_after_s": round(self.posted_s, 2),
            "lag_ms": lag_spread(self.observation.lags),
            "load": self.load.as_dict(),
        }


def measure() -> Result:
    """Send a burst to viewers of each transport, and shorter ones through stock Channels."""
    with streaming_stack() as client:
        ours = asyncio.run(_ours(client))
        groups = ["burst"] * VIEWERS
        peers = {
            layer: asyncio.run(
                run_stock_channels(client.stack, layer, groups, STOCK_EVENTS, lambda p: p.burst("burst", STOCK_EVENTS))
            )
            for layer in LAYERS
        }
    peer = max(peer.rate for peer in peers.values())
    return Result(
        "fanout_burst",
        ours["ws"].rate,
        "events/s",
        peer,
        TARGET_TIMES * peer,
        {
            "lost": 0,
            **{transport: burst.as_dict() for transport, burst in ours.items()},
            "peer": f"{PEER}; {STOCK_EVENTS} events",
            "stock": shown(peers),
        },
        more_is_better=True,
    )


async def _ours(client: Client) -> dict[str, Burst]:
    async with SimulatedShard(client.stack) as shard:
        return {transport: await _burst(client, shard, transport) for transport in TRANSPORTS}


async def _burst(client: Client, shard: SimulatedShard, transport: str) -> Burst:
    run = await shard.start_job(client)
    viewers = [viewer_of_job(client.stack, run.job_id, transport)] * VIEWERS
    async with audience(viewers) as watching, measured(client.stack) as load:
        began = time.time()
        await run.emit(EVENTS)
        count = await run.finish()
        posted = time.time()
        observation = await watching.wait_end(END_S)
    observation.check_exact([count] * VIEWERS)
    return Burst(observation, load, posted - began, observation.last_at - began)
