"""Failures of the hub: lost notifications, a layer that receives nothing, no database, slow viewers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest
from channels_redis.serializers import registry
from django.conf import settings
from django.db import OperationalError
from redis.asyncio import Redis

from jobs.events.encoding import head
from jobs.models import Job
from jobs.streaming import feed, hub, notify, reader, window
from jobs.streaming.batch import Batch, End, StreamHeartbeat
from jobs.streaming.hub import Hub
from jobs.streaming.publisher import channel_layer
from tests.factories.control_plane import Runner, running_job
from tests.factories.viewers import in_thread, until

pytestmark = [pytest.mark.anyio, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def running(tenant: Any, key: str) -> tuple[Job, Runner]:
    return running_job(tenant, key)


async def follow(one: Hub, job: Job, after: int = 0) -> tuple[list[int], End | None]:
    """Follow a job to its end, and return the event numbers and the end."""
    seen: list[int] = []
    stream = one.follow(job.pk, job.public_id, after)
    async with asyncio.timeout(30), aclosing(stream) as stream_events:  # type: ignore[type-var]  # it is a generator
        async for item in stream_events:
            if isinstance(item, End):
                return seen, item
            if isinstance(item, Batch):
                seen += [head(line)[0] for line in item.events.lines]
    return seen, None


def start(job: Job, viewers: int = 1) -> tuple[Hub, list[asyncio.Task[tuple[list[int], End | None]]]]:
    one = Hub()
    return one, [asyncio.create_task(follow(one, job)) for _ in range(viewers)]


async def post(runner: Runner, count: int, start_at: int = 0) -> None:
    for number in range(start_at, start_at + count):
        assert (await in_thread(runner.events, str(number), str(-number))).status_code == 200


async def test_every_second_notification_is_lost(running: tuple[Job, Runner], monkeypatch: pytest.MonkeyPatch) -> None:
    job, runner = running
    publish, count = notify._publish, iter(range(10**6))
    monkeypatch.setattr(notify, "_publish", lambda *what: publish(*what) if next(count) % 2 else None)
    _, viewers = start(job, 3)
    await post(runner, 20)
    await in_thread(runner.finish)
    assert [await viewer for viewer in viewers] == [(list(range(1, 41)), End(40, "completed"))] * 3


@pytest.mark.parametrize("inline", [True, False])
async def test_notifications_are_repeated_and_out_of_order(
    running: tuple[Job, Runner], monkeypatch: pytest.MonkeyPatch, inline: bool
) -> None:
    job, runner = running
    if not inline:
        monkeypatch.setattr(notify, "MAX_INLINE_BYTES", 0)
    publish, held = notify._publish, list[tuple[Any, ...]]()

    def disorder(*what: Any) -> None:
        held.append(what)
        if len(held) == 3:
            for item in (held[2], held[0], held[0], held[1]):
                publish(*item)
            held.clear()

    monkeypatch.setattr(notify, "_publish", disorder)
    _, viewers = start(job, 2)
    await post(runner, 15)
    await in_thread(runner.finish)
    assert [await viewer for viewer in viewers] == [(list(range(1, 31)), End(30, "completed"))] * 2


async def test_the_database_is_unavailable_for_a_while(
    running: tuple[Job, Runner], monkeypatch: pytest.MonkeyPatch
) -> None:
    job, runner = running
    read, away = reader._run_and_release, True

    def sometimes(what: Any) -> Any:
        if away:
            raise OperationalError("the server closed the connection unexpectedly")
        return read(what)

    monkeypatch.setattr(reader, "_run_and_release", sometimes)
    _, viewers = start(job, 3)
    await post(runner, 3)
    await asyncio.sleep(1.5)
    assert not any(viewer.done() for viewer in viewers)
    away = False
    await in_thread(runner.finish)
    assert [await viewer for viewer in viewers] == [([1, 2, 3, 4, 5, 6], End(6, "completed"))] * 3


async def test_redis_is_unavailable(
    running: tuple[Job, Runner], monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    job, runner = running
    settings.CHANNEL_LAYERS = {
        "default": {
            "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
            "CONFIG": {"hosts": ["redis://127.0.0.1:1/0"]},
        }
    }
    monkeypatch.setattr(notify, "_publish", lambda *_: None)
    one, viewers = start(job, 2)
    await post(runner, 3)
    await in_thread(runner.finish)
    assert [await viewer for viewer in viewers] == [([1, 2, 3, 4, 5, 6], End(6, "completed"))] * 2
    assert one.watched == 0


async def test_a_subscription_that_the_server_lost_is_renewed(
    running: tuple[Job, Runner], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "SILENT_AFTER_S", 0.3)
    job, runner = running
    _, viewers = start(job)
    layer = channel_layer()._get_layer()  # type: ignore[attr-defined]  # the layer of this event loop
    await until(lambda: layer.groups)
    # The layer still assumes that it is subscribed.
    await layer._shards[0]._pubsub.unsubscribe(*layer._shards[0]._subscribed_to)
    heard: list[Any] = []
    take = feed.Feed.on_notification

    def hear(self: feed.Feed, message: dict[str, Any]) -> None:
        heard.append(message)
        take(self, message)

    monkeypatch.setattr(feed.Feed, "on_notification", hear)
    for number in range(60):
        await in_thread(runner.events, str(number))
        await asyncio.sleep(0.1)
        if heard:
            break
    assert heard, "the hub never listened again"
    await in_thread(runner.finish)
    seen, end = await viewers[0]
    assert end is not None
    assert seen == list(range(1, end.count + 1))


async def test_an_attacker_on_redis_can_neither_read_nor_forge_messages(
    running: tuple[Job, Runner], tenant: Any, key: str
) -> None:
    job, runner = running
    other, other_runner = await in_thread(running_job, tenant, key)
    redis = Redis.from_url(settings.REDIS_URL)
    tap = redis.pubsub()
    await tap.psubscribe("*")
    _, viewers = start(job)
    layer = channel_layer()._get_layer()  # type: ignore[attr-defined]  # the layer of this event loop
    await until(lambda: layer.groups)
    group, alien = (layer._get_group_channel_name(notify.group_name(one.public_id)) for one in (job, other))
    # Without subscribers nothing is sent.
    await tap.subscribe(alien)
    await in_thread(other_runner.events, *(f"canary {number}" for number in range(9)))
    overheard = await next_message(tap, alien)
    assert b"canary" not in overheard
    # The attacker sends forged messages, noise and a replayed message of another job.
    plain = registry.get_serializer("msgpack")
    lie = {"type": "job.events", "job": job.public_id, "first_seq": 1, "last_seq": 1, "lines": "lie"}
    for forged in (plain.serialize(lie), json.dumps(lie), b"", b"\xff" * 50, overheard):
        await redis.publish(group, forged)
    await in_thread(runner.events, "true")
    await in_thread(runner.finish)
    assert await viewers[0] == ([1], End(1, "completed"))
    await tap.aclose()  # type: ignore[no-untyped-call]  # the library has no annotation here
    await redis.aclose()


async def next_message(tap: Any, channel: str) -> bytes:
    async with asyncio.timeout(10):
        async for message in tap.listen():
            if message["type"] == "pmessage" and message["channel"].decode() == channel:
                return bytes(message["data"])
    raise AssertionError("nothing was published")


async def test_a_viewer_that_joins_while_the_last_one_leaves_is_subscribed(running: tuple[Job, Runner]) -> None:
    job, runner = running
    one, viewers = start(job)
    layer = channel_layer()._get_layer()  # type: ignore[attr-defined]  # the layer of this event loop
    await until(lambda: layer.groups)
    # Another job keeps the subscription open. A viewer leaves before its feed has started, and another one joins.
    feed_of = one._enter(-1, "job_other")
    one._leave(feed_of)
    again = one._enter(-1, "job_other")
    assert one._subscription is not None
    subscription = one._subscription
    await until(lambda: subscription.is_active("job_other"))
    one._leave(again)
    await in_thread(runner.finish)
    await viewers[0]


async def test_one_subscription_serves_all_viewers_and_ends_with_the_last(running: tuple[Job, Runner]) -> None:
    job, runner = running
    one, viewers = start(job, 50)
    layer = channel_layer()._get_layer()  # type: ignore[attr-defined]  # the layer of this event loop
    await until(lambda: layer.groups)
    assert (len(layer.channels), len(layer.groups), one.watched) == (1, 1, 1)
    for viewer in viewers[1:]:
        viewer.cancel()
    await in_thread(runner.events, "still here")
    await in_thread(runner.finish)
    assert await viewers[0] == ([1], End(1, "completed"))
    await until(lambda: not layer.channels and not layer.groups and not one.watched)


async def test_a_slow_viewer_does_not_delay_others_and_gets_everything(
    running: tuple[Job, Runner], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(window, "MAX_BYTES", 2000)
    job, runner = running
    one, viewers = start(job, 3)
    slow = one.follow(job.pk, job.public_id, 0)
    await in_thread(runner.events, "first")
    async with aclosing(slow):  # type: ignore[type-var]  # it is a generator
        first = await anext(slow)
        for _ in range(30):
            await in_thread(runner.events, *["x" * 100] * 5)
        await in_thread(runner.finish)
        everything = (list(range(1, 152)), End(151, "completed"))
        assert [await viewer for viewer in viewers] == [everything] * 3
        rest = [head(line)[0] for item in [first, *[item async for item in slow]] for line in _lines(item)]
    assert rest == everything[0]


def _lines(item: Batch | End | StreamHeartbeat) -> tuple[str, ...]:
    return item.events.lines if isinstance(item, Batch) else ()


async def test_simultaneous_viewers_share_each_page_read(
    running: tuple[Job, Runner], monkeypatch: pytest.MonkeyPatch
) -> None:
    job, runner = running
    await in_thread(runner.events, *map(str, range(500)))
    await in_thread(runner.events, *map(str, range(500)))
    await in_thread(runner.finish)
    reads: list[int] = []
    read = reader.read_batches

    async def counted(job_pk: int, after: int) -> Any:
        reads.append(after)
        return await read(job_pk, after)

    monkeypatch.setattr(feed, "read_batches", counted)
    _, viewers = start(job, 40)
    assert {len((await viewer)[0]) for viewer in viewers} == {1000}
    assert reads == [0]


async def test_heartbeats_are_sent_while_there_are_no_events(running: tuple[Job, Runner]) -> None:
    job, _ = running
    stream_events = Hub().follow(job.pk, job.public_id, 0, heartbeat_s=0.05)
    async with asyncio.timeout(5), aclosing(stream_events):  # type: ignore[type-var]  # it is a generator
        items = [await anext(stream_events) for _ in range(3)]
    assert all(isinstance(item, StreamHeartbeat) for item in items)
    assert isinstance(stream_events, AsyncIterator)
