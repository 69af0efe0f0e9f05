"""Effect of a viewer that reads nothing on the other viewers and on the web process's memory."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tests.acceptance.client import Client
from tests.benchmarks.audience import Observation, audience, viewer_of_job
from tests.benchmarks.load import Load, measured
from tests.benchmarks.result import Check, Result, median
from tests.benchmarks.streams import END_S, TRANSPORTS, streaming_stack, viewers_of_jobs
from tests.benchmarks.tally import lag_percentile, lag_spread
from tests.fixtures.simulated_shard import SimulatedShard

# The others' p99 may grow by this factor; a difference of fewer milliseconds than the second value is noise.
MAX_TIMES = 1.2
NOISE_MS = 5
GROWTH_MB = 20
OTHERS = 10
# Rate and size make 24 MB while the slow viewer sleeps, more than kernel buffers and the allowed growth hold.
#
# A much higher rate exceeds one runner's batches, and the lags would be those of the runner's queue.
RATE, SIZE = 150, 16_000
PAUSE_S = 10
# The kinds alternate, so that a busy minute of the machine affects all of them.
#
# All turns have one length, because a longer turn has more pauses of the machine in its p99.
TURNS = (None, *TRANSPORTS) * 3


@dataclass(frozen=True)
class Turn:
    """Measurement of one watched job, with a slow viewer on the transport ``slow`` or without one."""

    slow: str | None
    observation: Observation
    load: Load

    @property
    def p99(self) -> float:
        return lag_percentile(self.observation.lags, 99)

    def as_dict(self) -> dict[str, Any]:
        lag_ms, growth_mb = lag_spread(self.observation.lags), self.load.growth_mb
        return {
            "slow": self.slow,
            "lag_ms": lag_ms,
            "growth_mb": growth_mb,
            **self.load.as_dict(),
        }


def measure() -> Result:
    """Watch jobs alternately with a slow viewer and without one."""
    with streaming_stack() as client:
        turns = asyncio.run(_turns(client))
    alone = median([turn.p99 for turn in turns if turn.slow is None])
    disturbed = {transport: median([turn.p99 for turn in turns if turn.slow == transport]) for transport in TRANSPORTS}
    # The memory of the web process varies without a slow viewer too.
    growth = max(turn.load.growth_mb for turn in turns if turn.slow)
    growth -= median([turn.load.growth_mb for turn in turns if turn.slow is None])
    return Result(
        "fanout_slow_viewer",
        max(disturbed.values()),
        "ms",
        alone,
        round(max(MAX_TIMES * alone, alone + NOISE_MS), 1),
        {
            "lost": 0,
            "others_p99_ms": {"alone": alone, **{f"with_slow_{name}": p99 for name, p99 in disturbed.items()}},
            "peer": "the others' p99 without a slow viewer, in turns with it",
            "turns": [turn.as_dict() for turn in turns],
        },
        checks=[Check("memory of the web process that a slow viewer adds", round(growth, 1), GROWTH_MB, "MB")],
    )


async def _turns(client: Client) -> Sequence[Turn]:
    async with SimulatedShard(client.stack) as shard:
        # This turn is not counted: it warms up the caches.
        await _turn(client, shard, None)
        return [await _turn(client, shard, slow) for slow in TURNS]


async def _turn(client: Client, shard: SimulatedShard, slow: str | None) -> Turn:
    """Watch one job; the slow viewer reads again at the end and must have received every event."""
    run = await shard.start_job(client)
    sleepers = [viewer_of_job(client.stack, run.job_id, slow, PAUSE_S)] if slow else []
    async with (
        audience(viewers_of_jobs(client.stack, [run.job_id], OTHERS)) as watching,
        audience(sleepers) as sleeping,
        measured(client.stack) as load,
    ):
        await run.stream(RATE, PAUSE_S, SIZE)
        count = await run.finish()
        observation, late = await asyncio.gather(watching.wait_end(END_S), sleeping.wait_end(END_S))
    observation.check_exact([count] * OTHERS)
    late.check_exact([count] * len(sleepers))
    return Turn(slow, observation, load)
