"""Server-Sent Events of a job through the real ASGI application and server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import httpx
import pytest
from httpx_sse import aconnect_sse

from jobs.models import Job
from jobs.streaming.publisher import channel_layer
from myctobot.asgi import application
from myctobot.tenants.models import ApiKey, Tenant
from tests.factories.control_plane import Runner, make_job, running_job
from tests.factories.viewers import in_thread
from tests.integration.gateway.conftest import served

pytestmark = [pytest.mark.anyio, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def api_key(tenant: Tenant) -> str:
    return ApiKey.create(tenant, "viewer", role="viewer")[1]


@pytest.fixture
async def client(api_key: str) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"Authorization": f"Bearer {api_key}"}
    async with (
        served(application) as url,
        httpx.AsyncClient(base_url=f"{url}/api/v1", headers=headers, trust_env=False, timeout=20) as client,
    ):
        yield client


@pytest.fixture
def running(tenant: Tenant, key: str) -> tuple[Job, Runner]:
    return running_job(tenant, key)


async def follow(client: httpx.AsyncClient, job: Job, query: str = "", **headers: str) -> AsyncIterator[dict[str, Any]]:
    """Yield the frames of the stream as {id, event, data}."""
    async with client.stream("GET", f"/jobs/{job.public_id}/stream{query}", headers=headers) as response:
        assert response.status_code == 200
        assert response.headers["content-type"] == "text/event-stream"
        frame: dict[str, Any] = {}
        async for line in response.aiter_lines():
            name, _, value = line.partition(": ")
            if not line and "event" in frame:
                yield frame
            if not line:
                frame = {}
            elif name:
                frame[name] = json.loads(value) if name == "data" else value


async def whole(client: httpx.AsyncClient, job: Job, query: str = "", **headers: str) -> list[dict[str, Any]]:
    async with asyncio.timeout(30):
        return [frame async for frame in follow(client, job, query, **headers)]


def texts(frames: list[dict[str, Any]]) -> list[str]:
    return [frame["data"]["data"]["text"] for frame in frames if frame["event"] == "log.line"]


async def test_the_stream_of_an_ended_job_replays_and_ends(
    client: httpx.AsyncClient, running: tuple[Job, Runner]
) -> None:
    job, runner = running
    await in_thread(runner.events, *(f"line {number}" for number in range(450)))
    await in_thread(runner.finish)
    frames = await whole(client, job)
    assert texts(frames) == [f"line {number}" for number in range(450)]
    assert [frame["id"] for frame in frames[:-1]] == [str(number) for number in range(1, 451)]
    assert frames[-1]["event"] == "end"
    assert frames[-1]["data"]["data"] == {"count": 450, "status": "completed"}
    assert frames[-1]["id"] == "451"


async def test_a_job_that_ended_before_it_started(client: httpx.AsyncClient, tenant: Tenant, key: str) -> None:
    from jobs.lifecycle.cancel import cancel

    job = await in_thread(make_job, tenant)
    await in_thread(cancel, tenant, job.public_id)
    frames = await whole(client, job)
    assert [frame["data"]["data"] for frame in frames] == [{"count": 0, "status": "cancelled"}]


async def test_a_client_that_reconnects_after_the_end_gets_no_stream(
    client: httpx.AsyncClient, running: tuple[Job, Runner]
) -> None:
    job, runner = running
    await in_thread(runner.events, "a", "b")
    [*_, last] = await read_until(client, job, "2")
    await in_thread(runner.finish)
    # The end may have been lost on its way, so a client that has only the last event gets it.
    [end] = await whole(client, job, **{"Last-Event-ID": last["id"]})
    assert end["event"] == "end"
    for last_id in (end["id"], "99"):
        answer = await client.get(f"/jobs/{job.public_id}/stream", headers={"Last-Event-ID": last_id})
        assert (answer.status_code, answer.content) == (204, b"")


async def read_until(client: httpx.AsyncClient, job: Job, last_id: str) -> list[dict[str, Any]]:
    """Read the stream of a running job up to an event."""
    found = []
    async with aclosing(follow(client, job)) as frames:  # type: ignore[type-var]  # a generator
        async for frame in frames:
            found.append(frame)
            if frame["id"] == last_id:
                break
    return found


async def test_an_id_beyond_the_events_of_a_running_job_waits_for_its_end(
    client: httpx.AsyncClient, running: tuple[Job, Runner]
) -> None:
    job, runner = running
    async with client.stream("GET", f"/jobs/{job.public_id}/stream", headers={"Last-Event-ID": "99"}) as response:
        await in_thread(runner.events, "a")
        await in_thread(runner.finish)
        text = (await response.aread()).decode()
    assert (response.status_code, text.splitlines()[:3]) == (200, ["retry: 1000", "id: 2", "event: end"])


async def test_every_event_of_a_stream_has_data(
    client: httpx.AsyncClient, running: tuple[Job, Runner], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.streaming.hub.Hub.follow.__defaults__", (0.05,))
    job, runner = running
    found = []
    async with aconnect_sse(client, "GET", f"/jobs/{job.public_id}/stream") as source, asyncio.timeout(30):
        events = source.aiter_sse()
        await in_thread(runner.events, "a")
        found.append(await anext(events))
        # Heartbeats come in this pause.
        await asyncio.sleep(0.3)
        await in_thread(runner.finish)
        found += [event async for event in events]
    assert [(event.id, json.loads(event.data)["kind"]) for event in found] == [("1", "log.line"), ("2", "end")]
    assert found[0].retry == 1000


@pytest.mark.parametrize(
    ("query", "headers", "expected"),
    [
        ("?after=2", {}, ["c"]),
        ("", {"Last-Event-ID": "1"}, ["b", "c"]),
        ("?after=0", {"Last-Event-ID": "2"}, ["c"]),
        ("?after=3", {}, []),
        ("?after=99", {}, []),
    ],
)
async def test_a_viewer_resumes_at_its_position(
    client: httpx.AsyncClient, running: tuple[Job, Runner], query: str, headers: dict[str, str], expected: list[str]
) -> None:
    job, runner = running
    await in_thread(runner.events, "a", "b", "c")
    await in_thread(runner.finish)
    assert texts(await whole(client, job, query, **headers)) == expected


async def test_every_viewer_gets_live_events_once_and_in_order(
    client: httpx.AsyncClient, running: tuple[Job, Runner]
) -> None:
    job, runner = running
    await in_thread(runner.events, "0", "1")
    viewers = [asyncio.create_task(whole(client, job)) for _ in range(3)]
    late = None
    for start in range(2, 60, 2):
        await in_thread(runner.events, str(start), str(start + 1))
        if start == 30:
            late = asyncio.create_task(whole(client, job, "?after=10"))
    await in_thread(runner.finish)
    for viewer in viewers:
        assert texts(await viewer) == [str(number) for number in range(60)]
    assert late is not None
    assert texts(await late) == [str(number) for number in range(10, 60)]


async def test_events_arrive_without_any_notification(
    client: httpx.AsyncClient, running: tuple[Job, Runner], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.streaming.notify._publish", lambda *_: None)
    job, runner = running
    viewer = asyncio.create_task(whole(client, job))
    for number in range(3):
        await in_thread(runner.events, str(number))
    await in_thread(runner.finish)
    assert texts(await viewer) == ["0", "1", "2"]


async def test_many_viewers_leave_connections_for_the_api(
    client: httpx.AsyncClient, running: tuple[Job, Runner], settings: Any
) -> None:
    job, runner = running
    await in_thread(runner.events, "first")
    async with httpx.AsyncClient(
        base_url=client.base_url, headers=client.headers, trust_env=False, timeout=20, limits=httpx.Limits()
    ) as many:
        streams = [follow(many, job) for _ in range(settings.DATABASE_POOL_SIZE + 8)]
        for stream in streams:
            assert (await anext(stream))["id"] == "1"
        assert (await many.get(f"/jobs/{job.public_id}")).status_code == 200
        for stream in streams:
            await stream.aclose()  # type: ignore[attr-defined]  # the streams are generators


async def test_a_leaving_viewer_leaves_no_resources(client: httpx.AsyncClient, running: tuple[Job, Runner]) -> None:
    job, runner = running
    await in_thread(runner.events, "first")
    async with aclosing(follow(client, job)) as stream:  # type: ignore[type-var]  # follow returns a generator
        await anext(stream)
    await in_thread(runner.finish)
    await whole(client, job)
    layer = channel_layer()._get_layer()  # type: ignore[attr-defined]  # the layer of this event loop
    async with asyncio.timeout(10):
        while layer.channels or layer.groups:  # noqa: ASYNC110  # the layer sends no signal
            await asyncio.sleep(0.05)
