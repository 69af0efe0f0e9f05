from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pytest_django.fixtures import Settings
from redis import Redis

from myctobot.lib.crypto import digest
from myctobot.stack.redis import EmbeddedRedis
from shards.broker_access import redis_acl
from tests.fixtures.broker import (
    PASSWORD,
    QUEUES,
    ControlStandIn,
    LimitedWorker,
    Operator,
    control_stand_in,
    eventually,
    limited_worker,
)


@pytest.fixture(scope="package")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedRedis]:
    made = EmbeddedRedis(tmp_path_factory.mktemp("broker"), port=0)
    made.start()
    yield made
    made.stop()


@pytest.fixture
def operator(service: EmbeddedRedis, settings: Settings) -> Iterator[Operator]:
    """Provide an empty broker with the user of one shard."""
    settings.REDIS_URL = settings.SHARD_BROKER_URL = service.url
    made = Operator(service.url)
    made.redis.flushall()
    redis_acl.reconcile([])
    redis_acl.grant("s1", QUEUES, digest(PASSWORD))
    made.redis.execute_command("ACL", "LOG", "RESET")
    yield made
    made.close()


@pytest.fixture
def shard(operator: Operator) -> Iterator[Any]:
    """Connect as the shard's broker user, as an attacker on the shard could."""
    with Redis.from_url(redis_acl.broker_url_for("s1", PASSWORD), decode_responses=True, socket_timeout=5) as client:
        yield client


@pytest.fixture
def control() -> Iterator[ControlStandIn]:
    with control_stand_in(QUEUES) as made:
        yield made


@pytest.fixture
def worker(operator: Operator, control: ControlStandIn, tmp_path: Path) -> Iterator[LimitedWorker]:
    with limited_worker(tmp_path, control, redis_acl.broker_url_for("s1", PASSWORD)) as made:
        eventually(lambda: "ready." in made.said() or made.process.poll() is not None, "the worker does not start")
        yield made
