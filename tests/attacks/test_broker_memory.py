"""Attacks on the memory of the embedded broker, with the broker user of one shard."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from pytest_django.fixtures import Settings
from redis import OutOfMemoryError, Redis

from jobs.broker import send_all
from myctobot.celery import app
from myctobot.lib.crypto import digest
from myctobot.messaging import send_to_control
from myctobot.stack import redis_bounds
from myctobot.stack.redis import EmbeddedRedis
from shards.broker_access import redis_acl
from shards.broker_access.acl_rules import BrokerAccount
from tests.fixtures.broker import PASSWORD, QUEUES

pytestmark = pytest.mark.needs("a redis of 7.0 or newer")
MB = redis_bounds.MB
MEMORY = redis_bounds.MIN_MEMORY
SHARD = BrokerAccount("s1", QUEUES, digest(PASSWORD))
REPLY_KEY = "x.reply.celery.pidbox"


@pytest.fixture
def broker(tmp_path: Any, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Provide a broker of a small host as an operator, with the user of one shard."""
    monkeypatch.setattr(redis_bounds, "available_memory", lambda: 0)
    service = EmbeddedRedis(tmp_path / "home", port=0)
    settings.REDIS_URL = settings.SHARD_BROKER_URL = service.start()
    try:
        redis_acl.reconcile([SHARD])
        with Redis.from_url(service.url, decode_responses=True, socket_timeout=20) as client:
            yield client
    finally:
        service.stop()


@pytest.fixture
def shard(broker: Any) -> Iterator[Any]:
    with Redis.from_url(redis_acl.broker_url_for("s1", PASSWORD), socket_timeout=20) as client:
        yield client


@pytest.fixture
def log_in(broker: Any, settings: Settings) -> Any:
    def connect() -> socket.socket:
        address = urlsplit(settings.REDIS_URL)
        connection = socket.create_connection((address.hostname, address.port), timeout=20)
        connection.sendall(f"AUTH shard-s1 {PASSWORD}\r\n".encode())
        assert connection.recv(100) == b"+OK\r\n"
        return connection

    return connect


def memory_of(broker: Any) -> int:
    used: int = broker.info("memory")["used_memory"]
    return used


def fill(shard: Any) -> int:
    """Write answers until the broker refuses them, and return the number of bytes."""
    sent = 0
    for size in (MB // 10, 1000, 10):
        try:
            while sent < 4 * MEMORY:
                shard.lpush(REPLY_KEY, "x" * size)
                sent += size
        except OutOfMemoryError:
            continue
        raise AssertionError("the broker took everything")
    return sent


def test_answers_take_only_the_brokers_share(broker: Any, shard: Any) -> None:
    assert fill(shard) <= MEMORY
    assert memory_of(broker) < MEMORY + 8 * MB


def test_a_full_broker_loses_no_job_and_recovers(
    broker: Any, shard: Any, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(shard)
    # Buffers of idle connections shrink after seconds, and must not make room for another message.
    broker.config_set("maxmemory", memory_of(broker) - MB)
    with app.connection_for_write(settings.REDIS_URL) as connection:
        monkeypatch.setattr(app, "connection_for_write", lambda *_, **__: connection.clone())
        monkeypatch.setattr(app.amqp, "_producer_pool", None)
        monkeypatch.setattr(app, "_pool", None)
        # Neither raises: the attempt is withdrawn at its claim deadline, and beat repeats the task.
        send_all([("job_x", 1, "cap.git")])
        send_to_control("jobs.tick")
        assert broker.llen("cap.git") == 0
        # The periodic reconciliation frees the memory.
        redis_acl.reconcile([SHARD])
        assert 0 < broker.ttl(REPLY_KEY) <= 60
        broker.delete(REPLY_KEY)
        send_all([("job_x", 2, "cap.git")])
        assert broker.llen("cap.git") == 1


def test_unread_answers_of_a_connection_are_bounded(broker: Any, log_in: Any) -> None:
    ping = b"*2\r\n$4\r\nPING\r\n$%d\r\n%s\r\n" % (MB // 2, b"x" * (MB // 2))
    sent = 0
    with log_in() as connection:
        try:
            while sent < 4 * MEMORY:
                connection.sendall(ping)
                sent += len(ping)
        except ConnectionError:
            pass
    assert sent < MEMORY
    assert broker.info("memory")["used_memory_peak"] < MEMORY + 8 * MB


def test_many_connections_with_unread_answers_are_bounded_together(broker: Any, log_in: Any) -> None:
    ping = b"*2\r\n$4\r\nPING\r\n$%d\r\n%s\r\n" % (MB // 2, b"x" * (MB // 2))
    connections = [log_in() for _ in range(20)]
    for connection in connections:
        try:
            for _ in range(16):
                connection.sendall(ping)
        except (ConnectionError, TimeoutError):
            continue
    assert memory_of(broker) < MEMORY
    for connection in connections:
        connection.close()


def test_a_huge_argument_is_refused_before_it_arrives(log_in: Any) -> None:
    with log_in() as connection:
        connection.sendall(b"*3\r\n$5\r\nLPUSH\r\n$%d\r\n%s\r\n$500000000\r\n" % (len(REPLY_KEY), REPLY_KEY.encode()))
        assert b"invalid bulk length" in connection.recv(200)


def test_connections_are_bounded_and_nothing_is_evicted(broker: Any) -> None:
    assert broker.config_get("maxclients")["maxclients"] == str(redis_bounds.MAX_CLIENTS)
    assert broker.config_get("maxmemory-policy")["maxmemory-policy"] == "noeviction"
