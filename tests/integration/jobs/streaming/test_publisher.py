"""Publisher: writers do not wait, and failures of Redis do not reach them."""

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
    """Layer that records messages, and fails or blocks on request."""

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
    deadline = time.monotonic() + 30
    while not check():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_notifications_are_sent_in_order(layer: Layer) -> None:
    one = Publisher()
    for number in range(100):
        assert one.publish("job.a", {"n": number}, 10)
    wait(lambda: len(layer.sent) == 100)
    assert layer.sent == [("job.a", number) for number in range(100)]


def test_sending_continues_after_a_failure(layer: Layer) -> None:
    one = Publisher()
    layer.error = ConnectionRefusedError("redis is away")
    one.publish("job.a", {"n": 1}, 10)
    wait(lambda: not one._waiting)
    layer.error = None
    one.publish("job.a", {"n": 2}, 10)
    wait(lambda: layer.sent)
    assert layer.sent == [("job.a", 2)]


def test_an_ended_thread_is_restarted(layer: Layer, recwarn: pytest.WarningsRecorder) -> None:
    one = Publisher()
    layer.error = SystemExit()  # type: ignore[assignment]  # ends a thread silently
    one.publish("job.a", {"n": 1}, 10)
    wait(lambda: one._loop is None)
    layer.error = None
    one.publish("job.a", {"n": 2}, 10)
    wait(lambda: layer.sent)
    assert layer.sent == [("job.a", 2)]


@pytest.mark.parametrize(("size", "taken"), [(1, publisher.MAX_WAITING), (publisher.MAX_BYTES // 4, 4)])
def test_the_queue_is_bounded(monkeypatch: pytest.MonkeyPatch, layer: Layer, size: int, taken: int) -> None:
    one = Publisher()
    monkeypatch.setattr(one, "_take_all", list)
    assert [one.publish("job.a", {"n": 1}, size) for _ in range(taken + 3)] == [True] * taken + [False] * 3


class Serializer:
    """Serializer that does not encrypt and counts its calls."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def serialize(self, message: dict[str, Any]) -> bytes:
        self.asked.append(message["n"])
        return json.dumps(message).encode()


@pytest.fixture
def redis() -> Iterator[Redis]:
    with Redis.from_url(settings.REDIS_URL, socket_timeout=5) as made:
        yield made


def test_messages_without_subscribers_are_neither_encrypted_nor_sent(
    monkeypatch: pytest.MonkeyPatch, redis: Redis
) -> None:
    layer, serializer = RedisPubSubChannelLayer(hosts=[settings.REDIS_URL]), Serializer()
    layer._serializer = serializer
    monkeypatch.setattr(publisher, "channel_layer", lambda: layer)
    one = Publisher()
    with redis.pubsub(ignore_subscribe_messages=True) as tap:  # type: ignore[no-untyped-call]  # the library has no annotation here
        tap.subscribe("asgi__group__job.b")
        tap.get_message(timeout=5)
        for number, group in enumerate(["job.a", "job.b", "job.a", "job.b"]):
            one.publish(group, {"n": number}, 10)
        heard: list[int] = []
        wait(lambda: _receive(tap, heard) == 2)
    assert heard == serializer.asked == [1, 3]
    # A later subscriber gets the messages from then on.
    with redis.pubsub(ignore_subscribe_messages=True) as tap:  # type: ignore[no-untyped-call]  # the library has no annotation here
        tap.subscribe("asgi__group__job.a")
        tap.get_message(timeout=5)
        one.publish("job.a", {"n": 4}, 10)
        wait(lambda: _receive(tap, heard) == 3)
    assert heard == [1, 3, 4]


def _receive(tap: Any, heard: list[int]) -> int:
    """Receive pending messages and return their total number."""
    if message := tap.get_message(timeout=0.1):
        heard.append(json.loads(message["data"])["n"])
    return len(heard)
