"""Many short jobs while everything of the control plane is killed again and again, in the middle of whatever it does.

Simulated shards speak the real shard API with the real runner's stream. Among hundreds of claims, batches, rounds and
finishes within a few seconds, each kill meets some of every kind.
"""

from __future__ import annotations

import asyncio
import secrets
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from myctobot.contract.jobs import Phase
from tests.acceptance.client import Client
from tests.faults.injection import flush_redis, killed
from tests.fixtures.simulated_shard import SimulatedShard, register
from tests.stacks import running_stack

pytestmark = [pytest.mark.faults, pytest.mark.timeout(420)]

JOBS, AT_ONCE, EVENTS = 150, 24, 12
# In this order, a moment after each other. What is killed twice had time to be well again in between.
STRIKES = (
    ("web", killed("web")),
    ("control", killed("control")),
    ("postgres", killed("postgres", signal.SIGINT)),
    ("web", killed("web")),
    ("redis", flush_redis),
    ("control", killed("control")),
    ("postgres", killed("postgres", signal.SIGINT)),
    ("redis", killed("redis")),
    ("web", killed("web")),
)
BETWEEN_S = 1.5


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    with running_stack(tmp_path / "home", "--without", "shard", "--without", "gateway") as stack, Client(stack) as made:
        yield made


def test_nothing_is_lost_and_nothing_is_done_twice(client: Client) -> None:
    struck: list[tuple[float, str]] = []
    over = threading.Event()

    def strike_all() -> None:
        for name, strike in STRIKES:
            time.sleep(BETWEEN_S)
            struck.append((time.time(), name))
            strike(client)
        over.set()

    storm = threading.Thread(target=strike_all)
    jobs = asyncio.run(_live(client, storm, over))
    storm.join(120)
    assert [name for _, name in struck] == [name for name, _ in STRIKES]
    assert len(jobs) >= JOBS
    for job_id, events in jobs.items():
        job = client.job(job_id)
        assert job["status"] == "completed", job
        outcomes = [attempt["outcome"] for attempt in job["attempts"]]
        assert (outcomes.count("completed"), outcomes[-1]) == (1, "completed"), job["attempts"]
        assert {attempt["state"] for attempt in job["attempts"][:-1]} <= {"withdrawn"}, job["attempts"]
        assert [event["seq"] for event in client.events(job_id)] == list(range(1, events + 1)), job_id
    # Every strike met jobs at work.
    for at, name in struck:
        assert any(began < at < ended for began, ended in _lives), (name, at)


_lives: list[tuple[float, float]] = []


async def _live(client: Client, storm: threading.Thread, over: threading.Event) -> dict[str, int]:
    """Run jobs until the storm is over, so many at least; how many events each has."""
    identities = await asyncio.to_thread(
        register, client.stack, *((f"simulated-{n}", ["simulated"]) for n in (1, 2)), slots=AT_ONCE
    )
    done: dict[str, int] = {}
    headers = {"Authorization": f"Bearer {client.stack.api_key}"}
    async with (
        SimulatedShard(client.stack, identities[0]) as one,
        SimulatedShard(client.stack, identities[1]) as two,
        httpx.AsyncClient(base_url=f"{client.stack.web_url}/api/v1", headers=headers, timeout=15) as api,
    ):
        storm.start()

        async def one_after_another(shard: SimulatedShard) -> None:
            while len(done) < JOBS or not over.is_set():
                began = time.time()
                job_id = await _submit(api)
                run = await shard.take(job_id)
                await run.enter(Phase.AGENT)
                for _ in range(EVENTS // 3):
                    await run.emit(3)
                    await asyncio.sleep(0.1)
                done[job_id] = await run.finish()
                _lives.append((began, time.time()))

        await asyncio.gather(*(one_after_another((one, two)[n % 2]) for n in range(AT_ONCE)))
    return done


async def _submit(api: httpx.AsyncClient) -> str:
    body: dict[str, Any] = {"task": {"type": "prompt", "prompt": "Say it."}, "capabilities": ["simulated"]}
    key = {"Idempotency-Key": secrets.token_hex(8)}
    async with asyncio.timeout(90):
        while True:
            with suppress(httpx.TransportError):
                answer = await api.post("/jobs", json=body, headers=key)
                if answer.is_success:
                    return str(answer.json()["id"])
                assert answer.status_code >= 500, answer.text
            await asyncio.sleep(0.2)
