"""Cost of accepting events, with one job that writes and with up to two hundred."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tests.acceptance.client import Client
from tests.benchmarks.load import Load, measured
from tests.benchmarks.result import Result
from tests.benchmarks.streams import start_jobs, streaming_stack
from tests.fixtures.simulated_shard import SimulatedRun, simulated_shards

# An event of two hundred jobs may cost this many times as much as an event of one job.
MAX_TIMES = 2
SHARDS = 4
# Each step has a number of jobs and the events of each job: whole batches of 500 that take a few seconds.
WARM_UP = 1_000
STEPS = ((1, 20_000), (10, 4_000), (50, 1_500), (200, 500))


@dataclass(frozen=True)
class Step:
    """Measurement of one number of jobs that write at the same time."""

    jobs: int
    events: int
    seconds: float
    load: Load

    @property
    def cpu_ms(self) -> float:
        """Processor time of the web process and PostgreSQL for 1,000 events, in ms."""
        return round(self._per_thousand_ms(self.load.web_cpu_s + self.load.postgres_cpu_s), 1)

    def _per_thousand_ms(self, cpu_s: float) -> float:
        return cpu_s * 1000 / (self.events / 1000)

    def as_dict(self) -> dict[str, Any]:
        return {
            "jobs": self.jobs,
            "events": self.events,
            "events_per_s": round(self.events / self.seconds),
            "cpu_ms_per_1000": self.cpu_ms,
            "web_cpu_ms_per_1000": round(self._per_thousand_ms(self.load.web_cpu_s), 1),
            "postgres_cpu_ms_per_1000": round(self._per_thousand_ms(self.load.postgres_cpu_s), 1),
            "web_rss_most_mb": max(self.load.web_mb),
        }


def measure() -> Result:
    """Let more and more jobs write at full speed, without viewers."""
    with streaming_stack() as client:
        steps = asyncio.run(_steps(client))
    one, many = steps[0], steps[-1]
    return Result(
        "ingest_scaling",
        many.cpu_ms,
        "ms",
        one.cpu_ms,
        round(MAX_TIMES * one.cpu_ms, 1),
        {
            "unit": "processor time of the web process and PostgreSQL for 1,000 events",
            "steps": [step.as_dict() for step in steps],
            "peer": f"the same with {one.jobs} job that writes instead of {many.jobs}",
        },
    )


async def _steps(client: Client) -> Sequence[Step]:
    async with simulated_shards(client.stack, SHARDS) as shards:
        runs = await start_jobs(client, shards, 1)
        # The warm-up opens connections and fills caches.
        await _write(runs[0], WARM_UP)
        steps = []
        for jobs, events in STEPS:
            # All jobs confirm first, because a silent job renews its lease within the measured time.
            runs += await start_jobs(client, shards, jobs - len(runs))
            await asyncio.gather(*(run.confirm() for run in runs))
            steps.append(await _step(client, runs, events))
    return steps


async def _step(client: Client, runs: Sequence[SimulatedRun], events: int) -> Step:
    async with measured(client.stack) as load:
        began = time.monotonic()
        await asyncio.gather(*(_write(run, events) for run in runs))
        seconds = time.monotonic() - began
    return Step(len(runs), len(runs) * events, seconds, load)


async def _write(run: SimulatedRun, events: int) -> None:
    await run.emit(events)
    await run.confirm()
