"""Hints leave without their writer waiting, and a broken Redis costs nobody anything."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from channels_redis.pubsub import RedisPubSubChannelLayer
from django.conf import settings
from redis import Redis

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
    monkeypatch.setattr(one, "_take", list)
    assert [one.publish("job.a", {"n": 1}, size) for _ in range(taken + 3)] == [True] * taken + [False] * 3


class Serializer:
    """Seals nothing, and counts what it is asked to seal."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def serialize(self, message: dict[str, Any]) -> bytes:
        self.asked.append(message["n"])
        return json.dumps(message).encode()


@pytest.fixture
def redis() -> Iterator[Redis]:
    with Redis.from_url(settings.REDIS_URL, socket_timeout=5) as made:
        yield made


def test_what_nobody_listens_to_is_neither_sealed_nor_sent(monkeypatch: pytest.MonkeyPatch, redis: Redis) -> None:
    layer, serializer = RedisPubSubChannelLayer(hosts=[settings.REDIS_URL]), Serializer()
    layer._serializer = serializer
    monkeypatch.setattr(publisher, "channel_layer", lambda: layer)
    one = Publisher()
    with redis.pubsub(ignore_subscribe_messages=True) as tap:  # type: ignore[no-untyped-call]  # no types there
        tap.subscribe("asgi__group__job.b")
        tap.get_message(timeout=5)
        for number, group in enumerate(["job.a", "job.b", "job.a", "job.b"]):
            one.publish(group, {"n": number}, 10)
        heard: list[int] = []
        wait(lambda: _hear(tap, heard) == 2)
    assert heard == serializer.asked == [1, 3]
    # Somebody who comes later is heard from then on.
    with redis.pubsub(ignore_subscribe_messages=True) as tap:  # type: ignore[no-untyped-call]  # no types there
        tap.subscribe("asgi__group__job.a")
        tap.get_message(timeout=5)
        one.publish("job.a", {"n": 4}, 10)
        wait(lambda: _hear(tap, heard) == 3)
    assert heard == [1, 3, 4]


def _hear(tap: Any, heard: list[int]) -> int:
    """Take in what came, and say how much that is in all."""
    if message := tap.get_message(timeout=0.1):
        heard.append(json.loads(message["data"])["n"])
    return len(heard)
