"""The runner's event stream, against a control plane that is a list."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from myctobot.contract.jobs import (
    MAX_BATCH_BYTES,
    MAX_EVENT_BYTES,
    Cleaner,
    Event,
    EventKind,
    EventsRequest,
    LeaseAnswer,
    Phase,
)
from workers.control_plane import Fenced, Refused, Unreachable
from workers.runner.events import EventStream, OrderBroken
from workers.runner.runner import events as module
from workers.runner.spool import Spool

pytestmark = pytest.mark.anyio

TOKEN = "canary-token-123"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class MemoryControl:
    """Takes events as the control plane does; ``plan`` holds what the next calls raise instead."""

    def __init__(self) -> None:
        self.stored: list[Event] = []
        self.requests: list[EventsRequest] = []
        self.plan: list[Exception] = []
        self.cancel = False

    async def events(self, job_id: str, claim_token: str, request: EventsRequest) -> LeaseAnswer:
        await asyncio.sleep(0)
        self.requests.append(request)
        if self.plan:
            raise self.plan.pop(0)
        first, expected = request["first_seq"], len(self.stored) + 1
        if first > expected:
            raise Refused("out_of_order", "missing", {"expected": expected})
        self.stored.extend(request["events"][expected - first :])
        return LeaseAnswer(next_seq=len(self.stored) + 1, lease_s=60, cancel=self.cancel)


class Brakes:
    """Notes when the agent had to stop and when it could go on."""

    def __init__(self) -> None:
        self.pulled: list[str] = []

    async def silence(self) -> None:
        self.pulled.append("freeze")

    async def contact(self) -> None:
        self.pulled.append("thaw")


@asynccontextmanager
async def streaming(
    control: MemoryControl, brakes: Brakes | None = None, **bounds: int
) -> AsyncIterator[tuple[EventStream, asyncio.Task[None]]]:
    brakes = brakes or Brakes()
    spool = Spool(Path(tempfile.gettempdir()), **bounds)
    stream = EventStream(
        control,  # type: ignore[arg-type]  # the one method that the stream calls
        "job_1",
        1,
        "claim",
        1,
        Cleaner([TOKEN]),
        spool,
        on_silence=brakes.silence,
        on_contact=brakes.contact,
    )
    poster = asyncio.create_task(stream.run())
    try:
        yield stream, poster
    finally:
        poster.cancel()
        with suppress(asyncio.CancelledError, Refused, OrderBroken):
            await poster
        spool.close()


async def say(stream: EventStream, text: str) -> None:
    await stream.emit(EventKind.LOG, {"source": "agent", "text": text})


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BACKOFF_S", (0.0,))
    monkeypatch.setattr(module, "_GATHER_S", 0.0)


async def test_events_arrive_once_each_in_order() -> None:
    control = MemoryControl()
    async with streaming(control) as (stream, _):
        for number in range(1200):
            await say(stream, f"line {number}")
        await stream.confirm()
    assert [event["seq"] for event in control.stored] == list(range(1, 1201))
    assert [event["data"]["text"] for event in control.stored] == [f"line {number}" for number in range(1200)]
    assert len(control.requests) < 100


async def test_a_batch_is_repeated_until_it_is_confirmed() -> None:
    control = MemoryControl()
    control.plan = [Unreachable("away")] * 5
    async with streaming(control) as (stream, _):
        await say(stream, "one")
        await stream.confirm()
    assert [event["seq"] for event in control.stored] == [1]
    assert {request["first_seq"] for request in control.requests[:6]} == {1}


async def test_batches_stay_within_their_bound() -> None:
    control = MemoryControl()
    async with streaming(control) as (stream, _):
        for _ in range(10):
            await say(stream, "x" * (MAX_BATCH_BYTES // 3))
        await stream.confirm()
    sizes = [sum(len(event["data"]["text"]) for event in request["events"]) for request in control.requests]
    assert max(sizes) <= MAX_BATCH_BYTES
    assert len(control.stored) == 10


async def test_an_event_that_is_too_large_is_cut_with_a_mark_that_says_how_much() -> None:
    control = MemoryControl()
    async with streaming(control) as (stream, _):
        await say(stream, "y" * (MAX_EVENT_BYTES + 10))
        await stream.confirm()
    (event,) = control.stored
    assert event["kind"] == "event.truncated"
    assert event["data"]["kind"] == "log.line"
    assert event["data"]["bytes"] > MAX_EVENT_BYTES // 2


async def test_secrets_are_masked_before_they_leave_the_shard() -> None:
    control = MemoryControl()
    async with streaming(control) as (stream, _):
        await stream.emit(EventKind.TOOL_RESULT, {"id": "1", "output": f"token={TOKEN}", "is_error": False})
        await stream.confirm()
    assert control.stored[0]["data"]["output"] == "token=***"


async def test_a_fenced_stream_ends_and_whoever_waits_is_told() -> None:
    control = MemoryControl()
    control.plan = [Fenced("fenced", "not the present one", {})]
    async with streaming(control) as (stream, poster):
        await say(stream, "one")
        with pytest.raises(Fenced):
            await stream.confirm()
        with pytest.raises(Fenced):
            await poster
    assert control.stored == []


async def test_a_control_plane_that_forgot_events_is_not_told_others_in_their_place() -> None:
    control = MemoryControl()
    async with streaming(control) as (stream, poster):
        await say(stream, "one")
        await stream.confirm()
        control.stored.clear()
        await say(stream, "two")
        with pytest.raises(OrderBroken):
            await poster
    assert control.stored == []


async def test_a_wish_to_cancel_is_passed_on() -> None:
    control = MemoryControl()
    control.cancel = True
    async with streaming(control) as (stream, _):
        assert not stream.cancel_wanted.is_set()
        stream.poke()
        async with asyncio.timeout(5):
            await stream.cancel_wanted.wait()
    assert control.requests[0]["events"] == []


async def test_silence_stops_the_agent_and_an_answer_lets_it_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SELF_STOP_S", 0)
    control, brakes = MemoryControl(), Brakes()
    control.plan = [Unreachable("away")] * 3
    async with streaming(control, brakes) as (stream, _):
        await say(stream, "one")
        await stream.confirm()
    assert brakes.pulled == ["freeze", "thaw"]


async def test_one_that_is_to_be_cancelled_does_not_go_on_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SELF_STOP_S", 0)
    monkeypatch.setattr(module, "_BACKOFF_S", (0.01,))
    control, brakes = MemoryControl(), Brakes()
    control.plan, control.cancel = [Unreachable("away")], True
    async with streaming(control, brakes) as (stream, _):
        await stream.emit(EventKind.LOG, {"text": "a"})
        await stream.confirm()
        assert stream.cancel_wanted.is_set()
    assert "thaw" not in brakes.pulled


async def test_a_runner_that_was_stopped_itself_asks_before_its_agent_acts(monkeypatch: pytest.MonkeyPatch) -> None:
    control, brakes = MemoryControl(), Brakes()
    async with streaming(control, brakes) as (stream, _):
        await stream.emit(EventKind.LOG, {"text": "a"})
        await stream.confirm()
        stream._heard_at -= 300
        await stream.emit(EventKind.LOG, {"text": "b"})
        await stream.confirm()
    assert brakes.pulled == ["freeze", "thaw"]


async def test_a_short_silence_stops_nothing() -> None:
    control, brakes = MemoryControl(), Brakes()
    control.plan = [Unreachable("away")] * 3
    async with streaming(control, brakes) as (stream, _):
        await say(stream, "one")
        await stream.confirm()
    assert brakes.pulled == []


async def test_an_outage_fills_the_disk_and_not_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BACKOFF_S", (0.01,))
    control = MemoryControl()
    control.plan = [Unreachable("away")] * 1_000_000
    async with streaming(control, memory_bytes=10_000) as (stream, _):
        for number in range(200):
            await say(stream, f"{number} ".ljust(1000, "."))
        control.plan.clear()
        await stream.confirm()
    assert [event["seq"] for event in control.stored] == list(range(1, 201))


async def test_whoever_emits_waits_while_too_much_is_waiting() -> None:
    control = MemoryControl()
    control.plan = [Unreachable("away")] * 1_000_000
    async with streaming(control, most_bytes=10_000) as (stream, _):
        for _ in range(2):
            await say(stream, "z" * 6_000)
        blocked = asyncio.create_task(say(stream, "one too many"))
        await asyncio.sleep(0.05)
        assert not blocked.done()
        control.plan.clear()
        async with asyncio.timeout(5):
            await blocked
        await stream.confirm()
    assert len(control.stored) == 3


async def test_a_confirmation_is_newer_than_the_question() -> None:
    control = MemoryControl()
    async with streaming(control) as (stream, _):
        await stream.confirm()
        answered = len(control.requests)
        await stream.confirm()
    assert len(control.requests) > answered


async def test_the_phase_goes_along_with_every_batch() -> None:
    control = MemoryControl()
    async with streaming(control) as (stream, _):
        await stream.enter(Phase.CLONING)
        await stream.confirm()
    assert control.requests[0]["phase"] == "cloning"
    data: dict[str, Any] = control.stored[0]["data"]
    assert data == {"phase": "cloning"}
