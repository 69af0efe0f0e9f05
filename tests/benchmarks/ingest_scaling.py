"""What taking events in costs, from one job that writes to two hundred."""

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

# An event of two hundred jobs may cost so many times an event of one.
MOST_TIMES = 2
SHARDS = 4
# Jobs at once, and the events of each: whole batches of 500, as many as take a few seconds.
WARM_UP = 1_000
STEPS = ((1, 20_000), (10, 4_000), (50, 1_500), (200, 500))


@dataclass(frozen=True)
class Step:
    """So many jobs wrote at once."""

    jobs: int
    events: int
    seconds: float
    load: Load

    @property
    def cpu_ms(self) -> float:
        """Processor time of the web process and PostgreSQL for 1,000 events, ms."""
        return round(self._cost(self.load.web_cpu_s + self.load.postgres_cpu_s), 1)

    def _cost(self, cpu_s: float) -> float:
        return cpu_s * 1000 / (self.events / 1000)

    def shown(self) -> dict[str, Any]:
        return {
            "jobs": self.jobs,
            "events": self.events,
            "events_per_s": round(self.events / self.seconds),
            "cpu_ms_per_1000": self.cpu_ms,
            "web_cpu_ms_per_1000": round(self._cost(self.load.web_cpu_s), 1),
            "postgres_cpu_ms_per_1000": round(self._cost(self.load.postgres_cpu_s), 1),
            "web_rss_most_mb": max(self.load.web_mb),
        }


def measure() -> Result:
    """Let more and more jobs write as fast as their events are taken; nobody watches."""
    with streaming_stack() as client:
        steps = asyncio.run(_steps(client))
    one, many = steps[0], steps[-1]
    return Result(
        "ingest_scaling",
        many.cpu_ms,
        "ms",
        one.cpu_ms,
        round(MOST_TIMES * one.cpu_ms, 1),
        {
            "unit": "processor time of the web process and PostgreSQL for 1,000 events",
            "steps": [step.shown() for step in steps],
            "peer": f"the same with {one.jobs} job that writes instead of {many.jobs}",
        },
    )


async def _steps(client: Client) -> Sequence[Step]:
    async with simulated_shards(client.stack, SHARDS) as shards:
        runs = await start_jobs(client, shards, 1)
        # Connections and caches.
        await _write(runs[0], WARM_UP)
        steps = []
        for jobs, events in STEPS:
            # Those of the step before go on; one that is silent renews its lease alone, which would count too.
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
