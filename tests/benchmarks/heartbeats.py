"""Cost of a thousand idle shards that send a heartbeat every five seconds."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack

from myctobot.contract.limits import HEARTBEAT_EVERY_S
from tests.benchmarks.lives import send_heartbeat
from tests.benchmarks.load import Load, measured
from tests.benchmarks.result import Check, Result
from tests.benchmarks.streams import streaming_stack
from tests.benchmarks.wire import Wire
from tests.fixtures.simulated_shard import Identity, register
from tests.stacks import RunningStack

SHARDS = 1000
CLASSES = 50
PEER_SHARDS = 100
ROUNDS = 4
# The share of one core that the web process and PostgreSQL use together.
TARGET_PERCENT = 75
# After a few heartbeats with this delay the control plane would consider a shard silent.
MAX_P99_MS = 1000


def measure() -> Result:
    """Let a hundred shards and then a thousand send heartbeats, evenly distributed over each five seconds."""
    with streaming_stack() as client:
        few, many = asyncio.run(_measure(client.stack))
    (few_load, few_ms), (load, took_ms) = few, many
    shares = statistics.quantiles(took_ms, n=100)
    # Ten times as many shards may cost ten times as much.
    return Result(
        "heartbeats",
        _percent(load),
        "%",
        round(_percent(few_load) * SHARDS / PEER_SHARDS, 1),
        TARGET_PERCENT,
        {
            "unit": f"of one core, web process and PostgreSQL, with {SHARDS} shards, each every {HEARTBEAT_EVERY_S} s",
            "heartbeat_ms_p50": round(shares[49], 1),
            "heartbeat_ms_p99": round(shares[98], 1),
            "cpu_ms_a_heartbeat": round((load.web_cpu_s + load.postgres_cpu_s) * 1000 / len(took_ms), 2),
            **load.as_dict(),
            "peer": f"{PEER_SHARDS} shards in the same run, times {SHARDS // PEER_SHARDS}",
            "peer_heartbeat_ms_p99": round(statistics.quantiles(few_ms, n=100)[98], 1),
        },
        checks=[Check("p99 of a heartbeat", round(shares[98], 1), MAX_P99_MS, "ms")],
    )


def _percent(load: Load) -> float:
    return round((load.web_cpu_s + load.postgres_cpu_s) * 100 / load.seconds, 1)


async def _measure(stack: RunningStack) -> tuple[tuple[Load, list[float]], tuple[Load, list[float]]]:
    wanted = [(f"simulated-{n}", [f"class-{n % CLASSES}"]) for n in range(1, SHARDS + 1)]
    identities = await asyncio.to_thread(register, stack, *wanted, slots=1)
    async with AsyncExitStack() as opened:
        wires = [
            await opened.enter_async_context(Wire(stack.shard_api_url, {"Authorization": f"Bearer {identity.key}"}))
            for identity in identities
        ]
        shards = list(zip(wires, identities, strict=True))
        # The first heartbeats open connections and fill caches, and they do more work than later ones.
        await _send_all(shards, 1)
        return await _measure_share(stack, shards[:PEER_SHARDS]), await _measure_share(stack, shards)


async def _measure_share(stack: RunningStack, shards: Sequence[tuple[Wire, Identity]]) -> tuple[Load, list[float]]:
    async with measured(stack) as load:
        took_ms = await _send_all(shards, ROUNDS)
    return load, took_ms


async def _send_all(shards: Sequence[tuple[Wire, Identity]], rounds: int) -> list[float]:
    """Send heartbeats of every shard, each shard at its own moment; return the duration of each call in ms."""
    began = time.perf_counter()

    async def live(number: int, wire: Wire, identity: Identity) -> list[float]:
        took = []
        for turn in range(rounds):
            at = began + (turn + number / len(shards)) * HEARTBEAT_EVERY_S
            await asyncio.sleep(max(0.0, at - time.perf_counter()))
            sent = time.perf_counter()
            await send_heartbeat(wire, identity)
            took.append((time.perf_counter() - sent) * 1000)
        return took

    lives = await asyncio.gather(*(live(number, *shard) for number, shard in enumerate(shards)))
    return [one for took in lives for one in took]
