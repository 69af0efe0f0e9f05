"""Measurement of stock Channels on a stack's Redis: server, producer and viewers."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django.utils.module_loading import import_string

from myctobot.stack.ports import LOOPBACK, listen
from tests.benchmarks.audience import Observation, audience
from tests.benchmarks.peers import CHECKOUT, broker_url
from tests.benchmarks.stock_channels import LAYERS, PREFIX, REDIS_VARIABLE
from tests.benchmarks.tally import lag_percentile, lag_spread
from tests.benchmarks.viewers import Viewer
from tests.fixtures.simulated_shard import lines
from tests.stacks import RunningStack

_END_S = 20
_QUIET_TIMEOUT_S = 60


@dataclass(frozen=True)
class StockObservation:
    """Events that the viewers of one channel layer received.

    Attributes:
        sent: number of events that all viewers together should have received.
        rate: received events a second, from the first that was sent to the last that was received.
    """

    observation: Observation
    sent: int
    rate: float

    @property
    def p99(self) -> float:
        return lag_percentile(self.observation.lags, 99)

    def as_dict(self) -> dict[str, Any]:
        lost = self.sent - self.observation.events
        return {
            "lost": lost,
            "lost_percent": round(100 * lost / self.sent, 1),
            "delivered_per_s": self.rate,
            "lag_ms": lag_spread(self.observation.lags),
        }


class Producer:
    """Producer of events that calls ``group_send`` for one event at a time, as the documentation of Channels does."""

    def __init__(self, layer: str, redis_url: str) -> None:
        self._layer = import_string(LAYERS[layer])(hosts=[redis_url], prefix=PREFIX)

    async def burst(self, group: str, count: int, first: int = 1) -> None:
        """Send events at full speed, numbered from ``first``."""
        for seq, (kind, data) in enumerate(lines(count, first), first):
            event = {"seq": seq, "at": datetime.now(UTC).isoformat(), "kind": kind.value, "data": data}
            await self._layer.group_send(group, {"type": "job.event", "event": event})

    async def stream(self, group: str, rate: float, seconds: float) -> None:
        """Send events at a steady rate for a number of seconds."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        for number in range(round(rate * seconds)):
            await asyncio.sleep(began + number / rate - loop.time())
            await self.burst(group, 1, number + 1)


Produce = Callable[[Producer], Coroutine[Any, Any, None]]


async def run_stock_channels(
    stack: RunningStack, layer: str, groups: Sequence[str], events: int, produce: Produce, processes: int = 1
) -> StockObservation:
    """Start stock Channels on the stack's Redis, send events, and return what the viewers received.

    Args:
        groups: the group of each viewer.
        events: number of events that each viewer should receive.
        produce: coroutine that sends the events.
        processes: number of processes for the viewers.
    """
    async with _server(stack, layer) as url:
        viewers = [Viewer("ws", f"{url}/{group}/", {}) for group in groups]
        async with audience(viewers, processes) as watching:
            began = time.time()
            await produce(Producer(layer, broker_url(stack)))
            observation = await watching.wait_quiet(_QUIET_TIMEOUT_S)
    return StockObservation(
        observation, events * len(groups), round(observation.events / (observation.last_at - began))
    )


@asynccontextmanager
async def _server(stack: RunningStack, layer: str) -> AsyncIterator[str]:
    with listen(0) as listener:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.benchmarks.stock_channels",
            layer,
            str(listener.fileno()),
            cwd=CHECKOUT,
            env={"PATH": os.environ["PATH"], REDIS_VARIABLE: broker_url(stack)},
            pass_fds=(listener.fileno(),),
        )
        try:
            yield f"ws://{LOOPBACK}:{listener.getsockname()[1]}"
        finally:
            await _kill(process)


async def _kill(process: Process) -> None:
    # The server is killed at once, because it may still hold a million messages without a reader.
    if process.returncode is None:
        process.kill()
    await asyncio.wait_for(process.wait(), _END_S)
