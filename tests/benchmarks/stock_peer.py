"""Runs stock Channels beside a stack: its server, its producer and its viewers."""

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
from tests.benchmarks.audience import Sight, audience
from tests.benchmarks.peers import CHECKOUT, broker_url
from tests.benchmarks.stock_channels import LAYERS, PREFIX, REDIS_VARIABLE
from tests.benchmarks.tally import lag_percentile, lag_spread
from tests.benchmarks.viewers import Viewer
from tests.fixtures.simulated_shard import lines
from tests.stacks import RunningStack

_END_S = 20
_QUIET_TIMEOUT_S = 60


@dataclass(frozen=True)
class StockSight:
    """What the viewers of one layer saw.

    Attributes:
        sent: events that they should have seen, all together.
        rate: events that came, a second, from the first sending to the last coming.
    """

    sight: Sight
    sent: int
    rate: float

    @property
    def p99(self) -> float:
        return lag_percentile(self.sight.lags, 99)

    def shown(self) -> dict[str, Any]:
        lost = self.sent - self.sight.events
        return {
            "lost": lost,
            "lost_percent": round(100 * lost / self.sent, 1),
            "delivered_per_s": self.rate,
            "lag_ms": lag_spread(self.sight.lags),
        }


class Producer:
    """Sends events as the documentation of Channels has it: ``group_send``, one at a time."""

    def __init__(self, layer: str, redis_url: str) -> None:
        self._layer = import_string(LAYERS[layer])(hosts=[redis_url], prefix=PREFIX)

    async def burst(self, group: str, count: int, first: int = 1) -> None:
        """Send events as fast as they are taken, numbered from ``first`` on."""
        for seq, (kind, data) in enumerate(lines(count, first), first):
            event = {"seq": seq, "at": datetime.now(UTC).isoformat(), "kind": kind.value, "data": data}
            await self._layer.group_send(group, {"type": "job.event", "event": event})

    async def stream(self, group: str, rate: float, seconds: float) -> None:
        """Send events at an even rate a second, for so long."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        for number in range(round(rate * seconds)):
            await asyncio.sleep(began + number / rate - loop.time())
            await self.burst(group, 1, number + 1)


Produce = Callable[[Producer], Coroutine[Any, Any, None]]


async def stock(
    stack: RunningStack, layer: str, groups: Sequence[str], events: int, produce: Produce, processes: int = 1
) -> StockSight:
    """Start stock Channels on the stack's Redis, produce, and say what its viewers saw.

    Args:
        groups: one a viewer, the same as often as it has viewers.
        events: that each viewer should see.
        produce: sends them.
        processes: of viewers.
    """
    async with _server(stack, layer) as url:
        viewers = [Viewer("ws", f"{url}/{group}/", {}) for group in groups]
        async with audience(viewers, processes) as watching:
            began = time.time()
            await produce(Producer(layer, broker_url(stack)))
            sight = await watching.until_quiet(_QUIET_TIMEOUT_S)
    return StockSight(sight, events * len(groups), round(sight.events / (sight.last_at - began)))


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
            await _end(process)


async def _end(process: Process) -> None:
    # It has nothing to finish, and may have a million messages that nobody waits for.
    if process.returncode is None:
        process.kill()
    await asyncio.wait_for(process.wait(), _END_S)
