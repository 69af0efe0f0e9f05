"""Many short jobs while the processes of the control plane are killed again and again.

Simulated shards use the real shard API and the real runner's stream. There are hundreds of claims, batches, rounds
and finishes within a few seconds, so each kill interrupts some of every kind.
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
from tests.faults.injection import flush_redis, kill_program
from tests.fixtures.simulated_shard import SimulatedShard, register
from tests.stacks import running_stack

pytestmark = [pytest.mark.faults, pytest.mark.timeout(420)]

JOBS, AT_ONCE, EVENTS = 150, 24, 12
# A program that is killed twice has time to become healthy again in between.
FAULTS = (
    ("web", kill_program("web")),
    ("control", kill_program("control")),
    ("postgres", kill_program("postgres", signal.SIGINT)),
    ("web", kill_program("web")),
    ("redis", flush_redis),
    ("control", kill_program("control")),
    ("postgres", kill_program("postgres", signal.SIGINT)),
    ("redis", kill_program("redis")),
    ("web", kill_program("web")),
)
BETWEEN_S = 1.5


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    with running_stack(tmp_path / "home", "--without", "shard", "--without", "gateway") as stack, Client(stack) as made:
        yield made


def test_no_job_is_lost_and_no_event_is_repeated_in_a_storm(client: Client) -> None:
    injected: list[tuple[float, str]] = []
    over = threading.Event()

    def inject_all() -> None:
        for name, inject in FAULTS:
            time.sleep(BETWEEN_S)
            injected.append((time.time(), name))
            inject(client)
        over.set()

    storm = threading.Thread(target=inject_all)
    jobs = asyncio.run(_run_jobs(client, storm, over))
    storm.join(120)
    assert [name for _, name in injected] == [name for name, _ in FAULTS]
    assert len(jobs) >= JOBS
    for job_id, events in jobs.items():
        job = client.job(job_id)
        assert job["status"] == "completed", job
        outcomes = [attempt["outcome"] for attempt in job["attempts"]]
        assert (outcomes.count("completed"), outcomes[-1]) == (1, "completed"), job["attempts"]
        assert {attempt["state"] for attempt in job["attempts"][:-1]} <= {"withdrawn"}, job["attempts"]
        assert [event["seq"] for event in client.events(job_id)] == list(range(1, events + 1)), job_id
    # Jobs were running during every fault.
    for at, name in injected:
        assert any(began < at < ended for began, ended in _job_times), (name, at)


_job_times: list[tuple[float, float]] = []


async def _run_jobs(client: Client, storm: threading.Thread, over: threading.Event) -> dict[str, int]:
    """Run jobs until the storm is over and at least ``JOBS`` ran; return the number of events of each job."""
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
                _job_times.append((began, time.time()))

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
