"""Event stream of a runner, with a control plane in memory."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from myctobot.contract.jobs import Event, EventKind, Phase
from myctobot.contract.limits import MAX_BATCH_BYTES, MAX_EVENT_BYTES
from myctobot.contract.redaction import Redactor
from myctobot.contract.runner import EventsRequest, LeaseAnswer
from workers.control_plane import AttemptFenced, CallRefused, ControlPlaneUnreachable
from workers.runner import events as module
from workers.runner.events import EventStream, SequenceReset
from workers.runner.spool import Spool

pytestmark = pytest.mark.anyio

TOKEN = "canary-token-123"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class MemoryControl:
    """Control plane that stores events in a list; ``plan`` has the errors of the next calls."""

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
            raise CallRefused("out_of_order", "missing", {"expected": expected})
        self.stored.extend(request["events"][expected - first :])
        return LeaseAnswer(next_seq=len(self.stored) + 1, lease_s=60, cancel=self.cancel)


class FreezeRecorder:
    """Recorder of the calls that freeze and thaw the agent."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    async def silence(self) -> None:
        self.calls.append("freeze")

    async def contact(self) -> None:
        self.calls.append("thaw")


@asynccontextmanager
async def streaming(
    control: MemoryControl, recorder: FreezeRecorder | None = None, **bounds: int
) -> AsyncIterator[tuple[EventStream, asyncio.Task[None]]]:
    recorder = recorder or FreezeRecorder()
    spool = Spool(Path(tempfile.gettempdir()), **bounds)
    stream = EventStream(
        control,  # type: ignore[arg-type]  # the one method that the stream calls
        "job_1",
        1,
        "claim",
        1,
        Redactor([TOKEN]),
        spool,
        on_silence=recorder.silence,
        on_contact=recorder.contact,
    )
    poster = asyncio.create_task(stream.run())
    try:
        yield stream, poster
    finally:
        poster.cancel()
        with suppress(asyncio.CancelledError, CallRefused, SequenceReset):
            await poster
        spool.close()


async def say(stream: EventStream, text: str) -> None:
    await stream.emit(EventKind.LOG, {"source": "agent", "text": text})


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
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
    control.plan = [ControlPlaneUnreachable("away")] * 5
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


async def test_an_event_that_is_too_large_is_replaced_by_its_beginning() -> None:
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


async def test_a_fenced_stream_ends_and_its_waiters_get_the_error() -> None:
    control = MemoryControl()
    control.plan = [AttemptFenced("fenced", "not the present one", {})]
    async with streaming(control) as (stream, poster):
        await say(stream, "one")
        with pytest.raises(AttemptFenced):
            await stream.confirm()
        with pytest.raises(AttemptFenced):
            await poster
    assert control.stored == []


async def test_a_control_plane_that_lost_events_gets_no_others_under_their_numbers() -> None:
    control = MemoryControl()
    async with streaming(control) as (stream, poster):
        await say(stream, "one")
        await stream.confirm()
        control.stored.clear()
        await say(stream, "two")
        with pytest.raises(SequenceReset):
            await poster
    assert control.stored == []


async def test_a_requested_cancel_is_forwarded() -> None:
    control = MemoryControl()
    control.cancel = True
    async with streaming(control) as (stream, _):
        assert not stream.cancel_requested.is_set()
        stream.wake()
        async with asyncio.timeout(5):
            await stream.cancel_requested.wait()
    assert control.requests[0]["events"] == []


async def test_silence_freezes_the_agent_and_an_answer_thaws_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SELF_STOP_S", 0)
    control, recorder = MemoryControl(), FreezeRecorder()
    control.plan = [ControlPlaneUnreachable("away")] * 3
    async with streaming(control, recorder) as (stream, _):
        await say(stream, "one")
        await stream.confirm()
    assert recorder.calls == ["freeze", "thaw"]


async def test_an_agent_that_will_be_cancelled_is_not_thawed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SELF_STOP_S", 0)
    monkeypatch.setattr(module, "_BACKOFF_S", (0.01,))
    control, recorder = MemoryControl(), FreezeRecorder()
    control.plan, control.cancel = [ControlPlaneUnreachable("away")], True
    async with streaming(control, recorder) as (stream, _):
        await stream.emit(EventKind.LOG, {"text": "a"})
        await stream.confirm()
        assert stream.cancel_requested.is_set()
    assert "thaw" not in recorder.calls


async def test_a_runner_that_was_stopped_freezes_its_agent_until_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    control, recorder = MemoryControl(), FreezeRecorder()
    async with streaming(control, recorder) as (stream, _):
        await stream.emit(EventKind.LOG, {"text": "a"})
        await stream.confirm()
        stream._last_answer_at -= 300
        await stream.emit(EventKind.LOG, {"text": "b"})
        await stream.confirm()
    assert recorder.calls == ["freeze", "thaw"]


async def test_a_short_silence_does_not_freeze_the_agent() -> None:
    control, recorder = MemoryControl(), FreezeRecorder()
    control.plan = [ControlPlaneUnreachable("away")] * 3
    async with streaming(control, recorder) as (stream, _):
        await say(stream, "one")
        await stream.confirm()
    assert recorder.calls == []


async def test_an_outage_uses_the_disk_instead_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BACKOFF_S", (0.01,))
    control = MemoryControl()
    control.plan = [ControlPlaneUnreachable("away")] * 1_000_000
    async with streaming(control, memory_bytes=10_000) as (stream, _):
        for number in range(200):
            await say(stream, f"{number} ".ljust(1000, "."))
        control.plan.clear()
        await stream.confirm()
    assert [event["seq"] for event in control.stored] == list(range(1, 201))


async def test_emit_waits_while_the_spool_is_full() -> None:
    control = MemoryControl()
    control.plan = [ControlPlaneUnreachable("away")] * 1_000_000
    async with streaming(control, max_bytes=10_000) as (stream, _):
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


async def test_a_confirmation_was_sent_after_the_request_for_it() -> None:
    control = MemoryControl()
    async with streaming(control) as (stream, _):
        await stream.confirm()
        answered = len(control.requests)
        await stream.confirm()
    assert len(control.requests) > answered


async def test_every_batch_has_the_phase() -> None:
    control = MemoryControl()
    async with streaming(control) as (stream, _):
        await stream.enter(Phase.CLONING)
        await stream.confirm()
    assert control.requests[0]["phase"] == "cloning"
    data: dict[str, Any] = control.stored[0]["data"]
    assert data == {"phase": "cloning"}
