"""Hints leave without their writer waiting, and a broken Redis costs nobody anything."""

from __future__ import annotations

import time
from typing import Any

import pytest

from jobs.streaming import publisher
from jobs.streaming.publisher import Publisher


class Layer:
    """Records what is sent; fails, or stands still, as told."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, int]] = []
        self.error: Exception | None = None

    async def group_send(self, group: str, message: dict[str, Any]) -> None:
        if self.error:
            raise self.error
        self.sent.append((group, message["n"]))


@pytest.fixture
def layer(monkeypatch: pytest.MonkeyPatch) -> Layer:
    made = Layer()
    monkeypatch.setattr(publisher, "channel_layer", lambda: made)
    return made


def wait(check: Any) -> None:
    deadline = time.monotonic() + 5
    while not check():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_hints_leave_in_order(layer: Layer) -> None:
    one = Publisher()
    for number in range(100):
        assert one.publish("job.a", {"n": number}, 10)
    wait(lambda: len(layer.sent) == 100)
    assert layer.sent == [("job.a", number) for number in range(100)]


def test_after_a_failure_it_goes_on(layer: Layer) -> None:
    one = Publisher()
    layer.error = ConnectionRefusedError("redis is away")
    one.publish("job.a", {"n": 1}, 10)
    wait(lambda: not one._waiting)
    layer.error = None
    one.publish("job.a", {"n": 2}, 10)
    wait(lambda: layer.sent)
    assert layer.sent == [("job.a", 2)]


def test_a_thread_that_ended_is_started_again(layer: Layer, recwarn: pytest.WarningsRecorder) -> None:
    one = Publisher()
    layer.error = SystemExit()  # type: ignore[assignment]  # ends a thread without a word
    one.publish("job.a", {"n": 1}, 10)
    wait(lambda: one._loop is None)
    layer.error = None
    one.publish("job.a", {"n": 2}, 10)
    wait(lambda: layer.sent)
    assert layer.sent == [("job.a", 2)]


@pytest.mark.parametrize(("size", "taken"), [(1, publisher.MOST_WAITING), (publisher.MOST_BYTES // 4, 4)])
def test_what_waits_is_bounded(monkeypatch: pytest.MonkeyPatch, layer: Layer, size: int, taken: int) -> None:
    one = Publisher()
    monkeypatch.setattr(one, "_take", lambda: None)
    assert [one.publish("job.a", {"n": 1}, size) for _ in range(taken + 3)] == [True] * taken + [False] * 3
