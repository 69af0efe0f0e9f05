"""Contract of every stream of a job: each event once, in order, with the right end, after any outage."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from httpx_sse import SSEError, aconnect_sse
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from myctobot.contract.jobs import Outcome
from myctobot.stack.plan import CHECKOUT
from tests.acceptance.client import Client
from tests.fixtures.cutting_proxy import CuttingProxy, cutting_proxy
from tests.fixtures.simulated_shard import SimulatedRun, SimulatedShard
from tests.stacks import RunningStack, bare_environment, running_stack

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(240)]

VIEWERS_EACH = 3
RATE, SECONDS = 60, 26
WITHIN_S = 90


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """Start a stack for this test only, because the test ends its processes."""
    home = tmp_path_factory.mktemp("contract") / "home"
    with running_stack(home, "--without", "shard", "--without", "gateway") as running:
        yield running


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Viewer:
    """Viewer of a job that reconnects after the last event that it got."""

    def __init__(self, url: str, api_key: str, job_id: str) -> None:
        self.url, self.api_key, self.job_id = url, api_key, job_id
        self.seen: list[int] = []
        self.end: dict[str, Any] | None = None
        self.connections = 0

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.api_key}"}

    @property
    def last(self) -> int:
        return self.seen[-1] if self.seen else 0

    def take(self, event: dict[str, Any]) -> None:
        assert self.end is None, "an event after the end"
        if event["kind"] == "end":
            self.end = event["data"]
        else:
            self.seen.append(event["seq"])

    async def watch(self) -> None:
        while self.end is None:
            self.connections += 1
            with suppress(httpx.HTTPError, SSEError, OSError, WebSocketException, TimeoutError):
                async for event in self.connection():
                    self.take(event)
            await asyncio.sleep(0.1)

    def connection(self) -> AsyncIterator[dict[str, Any]]:
        raise AssertionError("a subclass defines the connection")


class SseViewer(Viewer):
    async def connection(self) -> AsyncIterator[dict[str, Any]]:
        resume = {"Last-Event-ID": str(self.last)} if self.seen else {}
        async with httpx.AsyncClient(headers=self.headers, timeout=20, trust_env=False) as client:
            address = f"{self.url}/api/v1/jobs/{self.job_id}/stream"
            async with aconnect_sse(client, "GET", address, headers=resume) as source:
                if source.response.status_code >= 500:
                    return
                assert source.response.status_code == 200
                async for frame in source.aiter_sse():
                    if not frame.data:
                        # The frame sets the reconnection time only, which is no event.
                        continue
                    event = json.loads(frame.data)
                    assert frame.event == event["kind"]
                    yield event


class WebSocketViewer(Viewer):
    async def connection(self) -> AsyncIterator[dict[str, Any]]:
        address = f"{self.url.replace('http', 'ws', 1)}/ws/jobs/{self.job_id}/?after={self.last}"
        async with connect(address, additional_headers=self.headers, proxy=None, open_timeout=20) as socket:
            async for message in socket:
                for event in json.loads(message)["events"]:
                    yield event
        # These codes allow another try. Any other code would hide a refusal.
        assert socket.close_code in (1000, 1001, 1006, 1012, 1013), (socket.close_code, socket.close_reason)


class CliViewer(Viewer):
    """Command line client, which is one process and reconnects itself."""

    code: int | None = None

    async def watch(self) -> None:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "myctobot.cli", "--json", "follow", self.job_id),
            cwd=CHECKOUT,
            env={**bare_environment(Path("/nonexistent")), "MYCTOBOT_URL": self.url, "MYCTOBOT_API_KEY": self.api_key},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=2**22,
        )
        assert process.stdout is not None
        assert process.stderr is not None
        counting = asyncio.create_task(self.count_connections(process.stderr))
        try:
            async for line in process.stdout:
                self.take(json.loads(line))
            self.code = await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
            await counting

    async def count_connections(self, messages: asyncio.StreamReader) -> None:
        self.connections = 1
        async for line in messages:
            self.connections += line.decode().lower().count("reconnect")


KINDS: tuple[type[Viewer], ...] = (SseViewer, WebSocketViewer, CliViewer)


def end_process(stack: RunningStack, name: str, number: signal.Signals) -> None:
    """Send a signal to a process of the stack, which the supervisor starts again."""
    # The record is absent until the process runs again.
    with suppress(FileNotFoundError, ProcessLookupError):
        os.kill(stack.pid_of(name), number)


async def cause_outages(stack: RunningStack) -> None:
    """End each process of the control plane in turn, then two at once."""
    await asyncio.sleep(2)
    for name, number in (
        ("web", signal.SIGKILL),
        ("redis", signal.SIGKILL),
        ("postgres", signal.SIGINT),
        ("web", signal.SIGTERM),
        ("redis", signal.SIGTERM),
    ):
        end_process(stack, name, number)
        await asyncio.sleep(4)
    end_process(stack, "redis", signal.SIGKILL)
    end_process(stack, "web", signal.SIGKILL)


async def watch_with_outages(stack: RunningStack, run: SimulatedRun, url: str, *, outcome: Outcome) -> list[Viewer]:
    viewers = [kind(url, stack.api_key, run.job_id) for kind in KINDS for _ in range(VIEWERS_EACH)]
    watching = [asyncio.create_task(viewer.watch()) for viewer in viewers]
    try:
        outages = asyncio.create_task(cause_outages(stack))
        await run.stream(RATE, SECONDS)
        await outages
        async with asyncio.timeout(WITHIN_S):
            # A slow machine reconnects less often in the same time.
            while any(viewer.connections <= 3 for viewer in viewers):
                await run.stream(RATE, 1)
        # These viewers connect after the end of the job.
        count = await run.finish(outcome)
        late = [kind(url, stack.api_key, run.job_id) for kind in KINDS]
        async with asyncio.timeout(WITHIN_S):
            await asyncio.gather(*watching, *(viewer.watch() for viewer in late))
    finally:
        for task in watching:
            task.cancel()
    assert count > RATE * SECONDS
    return [*viewers, *late]


@pytest.mark.long
@pytest.mark.anyio
async def test_every_viewer_sees_every_event_once_despite_outages(stack: RunningStack) -> None:
    with Client(stack) as client:
        async with SimulatedShard(stack) as shard, cutting_proxy(stack.web_url) as proxy:
            run = await shard.start_job(client)
            viewers = await watch_with_outages(stack, run, proxy.url, outcome=Outcome.COMPLETED)
            assert_complete(viewers, run, proxy)


def assert_complete(viewers: list[Viewer], run: SimulatedRun, proxy: CuttingProxy) -> None:
    everything = list(range(1, run.last_seq + 1))
    for viewer in viewers:
        kind = type(viewer).__name__
        assert viewer.seen == everything, f"{kind} saw {len(viewer.seen)} of {len(everything)}"
        assert viewer.end == {"count": run.last_seq, "status": "completed"}, kind
    assert [viewer.code for viewer in viewers if isinstance(viewer, CliViewer)] == [0] * (VIEWERS_EACH + 1)
    # The outages did break the connections several times.
    assert proxy.cuts >= 3 * len(viewers)
    assert all(viewer.connections > 3 for viewer in viewers[: VIEWERS_EACH * len(KINDS)])
