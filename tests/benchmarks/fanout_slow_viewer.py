"""What a viewer that reads nothing does to the others, and to the web process's memory."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tests.acceptance.client import Client
from tests.benchmarks.audience import Sight, audience, of_job
from tests.benchmarks.load import Load, measured
from tests.benchmarks.result import Check, Result, median
from tests.benchmarks.streams import END_S, TRANSPORTS, of_jobs, streaming_stack
from tests.benchmarks.tally import lag_percentile, lag_spread
from tests.fixtures.simulated_shard import SimulatedShard

# Of the others' p99: so much more is allowed, and less than this many ms is noise.
MOST_TIMES = 1.2
NOISE_MS = 5
GROWTH_MB = 20
OTHERS = 10
# Together 24 MB while the slow viewer sleeps: more than a web process may grow by and a kernel holds for it. Much more
# a second would not fit through one runner's batches, and then the lags would be its queue's.
RATE, SIZE = 150, 16_000
PAUSE_S = 10
# Three of each kind, all of one length, for the longer a turn the more the machine's own hiccups are in its p99. They
# take turns, so that a busy minute of the machine hits all; one more before them warms processor and caches up.
TURNS = (None, *TRANSPORTS) * 3


@dataclass(frozen=True)
class Turn:
    """One job watched, with a slow viewer by ``slow`` or without."""

    slow: str | None
    sight: Sight
    load: Load

    @property
    def p99(self) -> float:
        return lag_percentile(self.sight.lags, 99)

    def shown(self) -> dict[str, Any]:
        growth = self.load.growth_mb
        return {"slow": self.slow, "lag_ms": lag_spread(self.sight.lags), "growth_mb": growth, **self.load.shown()}


def measure() -> Result:
    """Watch jobs with a slow viewer and without, in turns."""
    with streaming_stack() as client:
        turns = asyncio.run(_turns(client))
    alone = median([turn.p99 for turn in turns if turn.slow is None])
    beside = {transport: median([turn.p99 for turn in turns if turn.slow == transport]) for transport in TRANSPORTS}
    # The process breathes without a slow viewer too.
    growth = max(turn.load.growth_mb for turn in turns if turn.slow)
    growth -= median([turn.load.growth_mb for turn in turns if turn.slow is None])
    return Result(
        "fanout_slow_viewer",
        max(beside.values()),
        "ms",
        alone,
        round(max(MOST_TIMES * alone, alone + NOISE_MS), 1),
        {
            "lost": 0,
            "others_p99_ms": {"alone": alone, **{f"beside_slow_{name}": p99 for name, p99 in beside.items()}},
            "peer": "the others' p99 without a slow viewer, in turns with it",
            "turns": [turn.shown() for turn in turns],
        },
        checks=[Check("memory of the web process that a slow viewer adds", round(growth, 1), GROWTH_MB, "MB")],
    )


async def _turns(client: Client) -> Sequence[Turn]:
    async with SimulatedShard(client.stack) as shard:
        await _turn(client, shard, None)
        return [await _turn(client, shard, slow) for slow in TURNS]


async def _turn(client: Client, shard: SimulatedShard, slow: str | None) -> Turn:
    """Watch one job; the slow viewer reads on in the end, and must have missed nothing."""
    run = await shard.start_job(client)
    sleepers = [of_job(client.stack, run.job_id, slow, PAUSE_S)] if slow else []
    async with (
        audience(of_jobs(client.stack, [run.job_id], OTHERS)) as watching,
        audience(sleepers) as sleeping,
        measured(client.stack) as load,
    ):
        await run.stream(RATE, PAUSE_S, SIZE)
        count = await run.finish()
        sight, late = await asyncio.gather(watching.until_end(END_S), sleeping.until_end(END_S))
    sight.check_exact([count] * OTHERS)
    late.check_exact([count] * len(sleepers))
    return Turn(slow, sight, load)
