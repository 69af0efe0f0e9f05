"""Simulated shards that take jobs from the broker, as real shards do, and finish each job at once."""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
import time
from collections import defaultdict
from collections.abc import Awaitable, Coroutine, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, cast

from redis.asyncio import Redis

from myctobot.contract.jobs import EventKind
from myctobot.contract.limits import HEARTBEAT_EVERY_S
from myctobot.contract.runner import CLAIM_HEADER
from myctobot.contract.shards import HeartbeatRequest, class_queue, shard_queue
from tests.benchmarks.peers import broker_url
from tests.benchmarks.wire import Wire
from tests.fixtures.simulated_shard import Identity, lines
from tests.stacks import RunningStack

BATCHES = 2
LINES = 5
# A slot repeats its request to the broker after this time.
_POP_S = 2
_WAIT_S = 600


class Lives:
    """Jobs from submission to end, over the real REST API, the real broker and the real shard API.

    Args:
        stack: a stack without shards.
        identities: the registered shards of the stack, all of one class.
    """

    def __init__(self, stack: RunningStack, identities: Sequence[Identity]) -> None:
        self._stack, self._identities = stack, identities
        self._open = AsyncExitStack()
        self._ended: defaultdict[str, asyncio.Future[None]] = defaultdict(asyncio.Future)

    async def __aenter__(self) -> Lives:
        self._api = await self._wire(self._stack.web_url, self._stack.api_key)
        self._broker = Redis.from_url(broker_url(self._stack), socket_timeout=None)
        self._open.push_async_callback(self._broker.aclose)
        work: list[Coroutine[Any, Any, None]] = []
        for identity in self._identities:
            wire = await self._wire(self._stack.shard_api_url, identity.key)
            await send_heartbeat(wire, identity)
            work.append(_send_heartbeats(wire, identity))
            work += [self._slot(wire, identity) for _ in range(identity.slots)]
        self._tasks = [asyncio.create_task(each) for each in work]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._open.aclose()

    async def _wire(self, url: str, key: str) -> Wire:
        wire = Wire(url, {"Authorization": f"Bearer {key}"})
        return await self._open.enter_async_context(wire)

    async def live(self, jobs: int, at_once: int) -> list[float]:
        """Run jobs to their end, and return the seconds that each took.

        Raises:
            AssertionError: the control plane refused a call.
            TimeoutError: the jobs did not end within ten minutes.
        """
        places = asyncio.Semaphore(at_once)

        async def life() -> float:
            async with places:
                began = time.perf_counter()
                body = {
                    "task": {"type": "prompt", "prompt": "Say it."},
                    "capabilities": list(self._identities[0].capabilities),
                }
                job = await _post(self._api, "/api/v1/jobs", body, expected=201)
                await self._ended[job["id"]]
                return time.perf_counter() - began

        async with asyncio.timeout(_WAIT_S):
            lives = asyncio.gather(*(life() for _ in range(jobs)))
            # A slot that fails ends the run, because only whole jobs may count.
            slots = asyncio.ensure_future(asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED))
            either: list[asyncio.Future[Any]] = [lives, slots]
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            slots.cancel()
            for task in self._tasks:
                if task.done():
                    lives.cancel()
                    await task
            return await lives

    async def _slot(self, wire: Wire, identity: Identity) -> None:
        queues = [class_queue(identity.capabilities), shard_queue(identity.name)]
        while True:
            taken = await cast(Awaitable[Any], self._broker.brpop(queues, timeout=_POP_S))
            if taken is not None:
                job_id, number = _arguments(taken[1])
                await _report_job(wire, job_id, number)
                self._ended[job_id].set_result(None)


async def send_heartbeat(wire: Wire, identity: Identity) -> None:
    """Send the heartbeat that a shard sends every five seconds."""
    report = HeartbeatRequest(
        version="simulated",
        capabilities=list(identity.capabilities),
        slots=identity.slots,
        running=[],
        cpu_percent=12.5,
        memory_mb=200,
        memory_total_mb=512,
        disk_free_mb=10_000,
        versions={"claude": "2.1.0", "python": "3.11.2"},
    )
    await _post(wire, "/shard/v1/heartbeat", report)


async def _send_heartbeats(wire: Wire, identity: Identity) -> None:
    while True:
        await asyncio.sleep(HEARTBEAT_EVERY_S)
        await send_heartbeat(wire, identity)


def _arguments(message: bytes) -> tuple[str, int]:
    """Return job and attempt of a Celery message (task protocol 2, in kombu's envelope for Redis)."""
    job_id, number = json.loads(base64.b64decode(json.loads(message)["body"]))[0]
    return job_id, number


async def _report_job(wire: Wire, job_id: str, number: int) -> None:
    """Report a job as a runner does: the claim, two batches of output, and the end."""
    path, token = f"/shard/v1/jobs/{job_id}", secrets.token_urlsafe(32)
    answer = await _post(wire, f"{path}/claim", {"attempt": number, "claim_token": token})
    seq, mine = answer["next_seq"], {CLAIM_HEADER: token}
    for _ in range(BATCHES):
        batch = {"attempt": number, "first_seq": seq, "events": _events(seq), "phase": "agent"}
        seq = (await _post(wire, f"{path}/events", batch, mine))["next_seq"]
    end = {"attempt": number, "outcome": "completed", "final_seq": seq - 1, "result": {"summary": "Done."}}
    await _post(wire, f"{path}/finish", end, mine)


def _events(first: int) -> list[dict[str, Any]]:
    at = datetime.now(UTC).isoformat()
    written: list[tuple[EventKind, dict[str, Any]]] = list(lines(LINES, first))
    return [{"seq": first + n, "at": at, "kind": kind.value, "data": data} for n, (kind, data) in enumerate(written)]


async def _post(
    wire: Wire, path: str, body: Any, headers: dict[str, str] | None = None, expected: int = 200
) -> dict[str, Any]:
    status, answer = await wire.post(path, body, headers)
    assert status == expected, (path, status, answer)
    return dict(answer)
