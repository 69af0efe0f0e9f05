"""Contract of every stream of a job: each event once, in order, with the right end, after any outage."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import suppress

import pytest

from myctobot.contract.jobs import Outcome
from tests.acceptance.client import Client
from tests.factories.stream_viewers import CliViewer, SseViewer, Viewer, WebSocketViewer
from tests.fixtures.cutting_proxy import CuttingProxy, cutting_proxy
from tests.fixtures.simulated_shard import SimulatedRun, SimulatedShard
from tests.stacks import RunningStack, running_stack

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
